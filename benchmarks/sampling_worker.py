"""limbeck's side of the sampling measurements: the engine that every stage samples with."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.contract import Job, Outcome, peak_memory_bytes, read_job, report
from benchmarks.limbeck_worker import load
from benchmarks.sampling_work import Prompt, Work, read_work, write_replies
from limbeck.lm import generate as engine
from limbeck.lm.generate import PromptIds, Sample, Sampling
from limbeck.lm.load import LanguageModel


def sample(job: Job) -> Outcome:
    """Continue all prompts, greedily; loading and a warm-up come before the clock starts."""
    work = read_work(job.rows)
    model = load(job)
    loaded = peak_memory_bytes()
    _generate(model, job, work, work.warm_up)
    tally: Any = engine.Tally() if hasattr(engine, "Tally") else None
    started = time.perf_counter()
    samples = _generate(model, job, work, work.timed, *([tally] if tally is not None else []))
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    write_replies(job.replies, {sample.prompt_id: list(sample.ids) for sample in samples})
    rows = {} if tally is None else {"useful_rows": tally.useful_rows, "computed_rows": tally.computed_rows}
    return Outcome(
        seconds=seconds,
        rows=len(samples),
        target_tokens=sum(len(sample.ids) for sample in samples),
        peak_memory_bytes=peak_memory_bytes(),
        peak_device_memory_bytes=torch.cuda.max_memory_allocated() if model.device.type == "cuda" else 0,
        loaded_memory_bytes=loaded,
        facts={"dtype": "bf16" if model.head.weight.dtype == torch.bfloat16 else "fp32"} | rows,
    )


def _generate(model: LanguageModel, job: Job, work: Work, prompts: Sequence[Prompt], *tally: Any) -> list[Sample]:
    """All samples. What only some work asks for is only then named: a length of each prompt's own, int8 weights."""
    longest = max(prompt.max_new_tokens for prompt in prompts)
    settings: dict[str, Any] = {"max_new_tokens": longest, "slots": job.batch, "seed": job.seed}
    if work.forced:
        settings["ignore_end_of_turn"] = True
    if job.sampler.weights is not None:
        settings["weights"] = job.sampler.weights
    asked = []
    for prompt in prompts:
        own: dict[str, Any] = {} if prompt.max_new_tokens == longest else {"max_new_tokens": prompt.max_new_tokens}
        asked.append(PromptIds(prompt.id, tuple(prompt.ids), **own))
    return list(engine.generate(model, asked, Sampling(**settings), *tally))


def main(arguments: Sequence[str]) -> None:
    """Do the job and print its outcome."""
    report(sample(read_job(arguments)))


if __name__ == "__main__":
    main(sys.argv[1:])
