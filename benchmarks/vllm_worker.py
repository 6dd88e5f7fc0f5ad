"""vLLM's side of the sampling measurements, offline, under an interpreter of its own, where vLLM is installed.

Imports nothing of limbeck and none of what it needs: a job comes in as JSON, the outcome leaves as one JSON line.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "auto": "auto"}


def sample(job: dict[str, Any]) -> dict[str, Any]:
    """Continue all prompts, greedily; loading, compilation and a warm-up come before the clock starts."""
    os.environ.update(_environment(job["sampler"]))  # read when vLLM is imported, and by the process of its engine
    from vllm import LLM, SamplingParams, __version__

    work = json.loads(Path(job["rows"]).read_text(encoding="utf-8"))
    stops = {"ignore_eos": True} if work["forced"] else {"stop_token_ids": work["stop_tokens"]}

    def parameters(rows: list[dict[str, Any]]) -> list[Any]:
        # Token ids are all that counts: no contender turns them into text.
        return [
            SamplingParams(temperature=0, max_tokens=row["max_new_tokens"], detokenize=False, **stops) for row in rows
        ]

    longest = max(len(row["ids"]) + row["max_new_tokens"] for row in work["warm_up"] + work["timed"])
    started = time.perf_counter()
    engine = LLM(
        job["model"],
        dtype=_DTYPES[job["dtype"]],
        enforce_eager=not job["sampler"]["compile"],
        max_num_seqs=job["batch"],
        max_model_len=longest + 1,
        seed=job["seed"],
    )
    loading = time.perf_counter() - started
    engine.generate(_prompts(work["warm_up"]), parameters(work["warm_up"]), use_tqdm=False)
    asked = parameters(work["timed"])
    started = time.perf_counter()
    answers = engine.generate(_prompts(work["timed"]), asked, use_tqdm=False)
    seconds = time.perf_counter() - started
    ids = [list(answer.outputs[0].token_ids) for answer in answers]
    replies = {row["id"]: reply for row, reply in zip(work["timed"], ids, strict=True)}
    Path(job["replies"]).write_text(json.dumps(replies), encoding="utf-8")
    return {
        "seconds": seconds,
        "rows": len(replies),
        "target_tokens": sum(map(len, ids)),
        "peak_memory_bytes": sum(peaks(os.getpid())),
        "facts": {"dtype": job["dtype"], "load_and_compile_seconds": loading, "vllm": __version__},
    }


def _environment(sampler: dict[str, Any]) -> dict[str, str]:
    found = {
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output is for the outcome
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "4"),  # GiB
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if sampler["own_process"] else "0",
    }
    return found | ({"VLLM_CPU_NUM_OF_RESERVED_CPU": "0"} if sampler["all_cores"] else {})


def _prompts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"prompt_token_ids": row["ids"]} for row in rows]


def peaks(process: int) -> Iterator[int]:
    """Largest resident memory so far of a process and of all below it: vLLM computes in a child. Linux alone."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        children = {child for task in tasks for child in (task / "children").read_text(encoding="utf-8").split()}
    except OSError:  # ended in the meantime, or no Linux
        return
    if "VmHWM:" in status:
        yield 1024 * int(status.split("VmHWM:")[1].split()[0])
    for child in children:
        yield from peaks(int(child))


def main(arguments: Sequence[str]) -> None:
    """Do the job and print its outcome."""
    outcome = sample(json.loads(arguments[0]))
    sys.stdout.write("\n" + json.dumps(outcome) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
