"""transformers' side of the sampling measurements: `generate` in left-padded batches of like lengths."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from benchmarks.contract import Job, Outcome, peak_memory_bytes, read_job, report
from benchmarks.sampling_work import Prompt, Work, read_work, write_replies

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "auto": "auto"}


def sample(job: Job) -> Outcome:
    """Continue all prompts, greedily; loading and a warm-up come before the clock starts."""
    work = read_work(job.rows)
    network: Any = AutoModelForCausalLM.from_pretrained(job.model, dtype=_DTYPES[job.dtype])
    network.to(job.device).eval()
    loaded = peak_memory_bytes()
    write = continuous if job.sampler.continuous else batched
    write(network, job, work, work.warm_up)
    started = time.perf_counter()
    replies = write(network, job, work, work.timed)
    seconds = time.perf_counter() - started
    write_replies(job.replies, replies)
    return Outcome(
        seconds=seconds,
        rows=len(replies),
        target_tokens=sum(map(len, replies.values())),
        peak_memory_bytes=peak_memory_bytes(),
        peak_device_memory_bytes=torch.cuda.max_memory_allocated() if job.device == "cuda" else 0,
        loaded_memory_bytes=loaded,
        facts={"dtype": "bf16" if network.dtype == torch.bfloat16 else "fp32"},
    )


def batched(network: Any, job: Job, work: Work, prompts: Sequence[Prompt]) -> dict[str, list[int]]:
    """Prompts sorted by length, so that little is padded, in batches."""
    replies: dict[str, list[int]] = {}
    ordered = sorted(prompts, key=lambda prompt: -len(prompt.ids))
    for start in range(0, len(ordered), job.batch):
        batch = ordered[start : start + job.batch]
        width = max(len(prompt.ids) for prompt in batch)
        pads = [width - len(prompt.ids) for prompt in batch]
        filler = work.stop_tokens[0]  # any token: it is masked
        ids = torch.tensor([[filler] * n + p.ids for n, p in zip(pads, batch, strict=True)])  # [B, W]
        mask = torch.tensor([[0] * n + [1] * len(p.ids) for n, p in zip(pads, batch, strict=True)])  # [B, W]
        with torch.inference_mode():
            written = network.generate(
                input_ids=ids.to(job.device),
                attention_mask=mask.to(job.device),
                generation_config=_settings(work, batch),
            )
        for prompt, row in zip(batch, written[:, width:].tolist(), strict=True):
            replies[prompt.id] = useful(row, work.stop_tokens)
    return replies


def continuous(network: Any, job: Job, work: Work, prompts: Sequence[Prompt]) -> dict[str, list[int]]:
    """transformers' own continuous batching, over a paged cache that it sizes itself."""
    del job
    written = network.generate_batch([prompt.ids for prompt in prompts], generation_config=_settings(work, prompts))
    if len(written) != len(prompts):
        raise RuntimeError(f"generate_batch finished {len(written)} of {len(prompts)} prompts")
    answers = {tuple(output.prompt_ids): output.generated_tokens for output in written.values()}
    return {prompt.id: useful(answers[tuple(prompt.ids)], work.stop_tokens) for prompt in prompts}


def _settings(work: Work, prompts: Sequence[Prompt]) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=max(prompt.max_new_tokens for prompt in prompts),
        do_sample=False,
        eos_token_id=work.stop_tokens,
        pad_token_id=work.stop_tokens[0],
        use_cache=True,
    )


def useful(ids: Sequence[int], stop_tokens: Sequence[int]) -> list[int]:
    """Up to the first token that ends the turn, and with it; what follows is padding."""
    ends = [place for place, token in enumerate(ids) if token in stop_tokens]
    return list(ids[: ends[0] + 1] if ends else ids)


def main(arguments: Sequence[str]) -> None:
    """Do the job and print its outcome."""
    report(sample(read_job(arguments)))


if __name__ == "__main__":
    main(sys.argv[1:])
