"""Which settings of transformers and vLLM are tried, and the fastest of them, found on fewer prompts."""

from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.contract import Job, Outcome

Update = dict[str, Any]  # fields of a job; those of `sampler` by their own names

NOT_TRIED = {
    "transformers, torch.compile with a static cache": "generate compiles by itself on accelerators alone, and a batch "
    "of another size or another longest prompt would compile anew",
    "transformers, assisted generation": "no smaller model shares the tokenizer; prompt lookup takes one row at a time",
    "vLLM, speculative decoding": "would be another comparison: no other contender drafts",
    "vLLM, quantised weights": "another model; compare with limbeck's int8 apart",
    "vLLM, prefix caching off": "it is on by default, and saves the template's first tokens",
}


def transformers_tries(device: str, quick: bool) -> tuple[list[Update], list[Update]]:
    """Both precisions at one batch size; then, each where it makes the fastest faster, what else there is."""
    size = 32 if device == "cpu" else 128
    first: list[Update] = [{"dtype": dtype, "batch": size} for dtype in ("fp32", "bf16")]
    if quick:
        return first[:1], []
    sizes = (64, 128, 16) if device == "cpu" else (256, 512)
    kept: list[Update] = [{"keep_freed_memory": True}] if device == "cpu" else []
    return first, [*({"batch": size} for size in sizes), *kept, {"continuous": True}]


def vllm_tries(device: str, quick: bool) -> tuple[list[Update], list[Update]]:
    """As for transformers. Compiling comes last, since it takes longest to load."""
    size = 64 if device == "cpu" else 256
    first: list[Update] = [{"dtype": dtype, "batch": size} for dtype in ("fp32", "bf16")]
    if quick:
        return first[:1], []
    sizes = (128, 256) if device == "cpu" else (512,)
    return first, [*({"batch": size} for size in sizes), {"own_process": True}, {"compile": True}]


def updated(job: Job, update: Update) -> Job:
    """The job with some fields changed, those of its sampler among them."""
    own = {key: value for key, value in update.items() if key in type(job.sampler).model_fields}
    rest = {key: value for key, value in update.items() if key not in own}
    return job.model_copy(update=rest | {"sampler": job.sampler.model_copy(update=own)})


def fastest(
    run: Callable[[Job, int], Outcome | None], base: Job, first: Iterable[Update], then: Iterable[Update]
) -> Job | None:
    """The job with most useful tokens a second of several, then with each change that makes it faster.

    `run` tries one, the second, ...; None where all fail.
    """
    number = 0
    found: tuple[float, Job] | None = None

    def try_(job: Job) -> None:
        nonlocal number, found
        number += 1
        outcome = run(job, number)
        speed = outcome.target_tokens / outcome.seconds if outcome is not None else 0.0
        if outcome is not None and (found is None or speed > found[0]):
            found = (speed, job)

    for update in first:
        try_(updated(base, update))
    for update in then:
        if found is not None:
            try_(updated(found[1], update))
    return found[1] if found else None
