"""Sampling: limbeck's engine, transformers' `generate` and vLLM in turn on the same prompts, greedily."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.compare import LIMBECK, TRIAL_SECONDS, Bench, Contender, Outcomes, alternate
from benchmarks.contract import Job, Outcome, SamplerSettings
from benchmarks.inputs import folder_of
from benchmarks.options import Options
from benchmarks.results import RESULTS, SAMPLING_FIGURE, Part
from benchmarks.sampling_summary import (
    EXACT,
    INT8,
    TRANSFORMERS,
    VLLM,
    agreement,
    headlines,
    int8_over,
    sweep_lines,
    throughput,
    useful_rows,
)
from benchmarks.sampling_trials import NOT_TRIED, Update, fastest, transformers_tries, updated, vllm_tries
from benchmarks.sampling_work import Work, grade_school_work, read_replies, uneven_lengths, write_work
from benchmarks.sweep import draw
from limbeck.console import say

NO_VLLM = "no interpreter that has it was named, with --vllm-python or LIMBECK_VLLM_PYTHON"
SWEEP_TOKENS = 64  # new tokens of a prompt, where they are not what grows
_TITLES = {"prompts": "prompts", "new_tokens": "new tokens a prompt", "slots": "slots"}


class Setup(NamedTuple):
    """What every measurement of this part starts from; `job` is limbeck's, without prompts."""

    options: Options
    scratch: Path
    work: Work
    job: Job

    def job_for(self, name: str, work: Work, job: Job | None = None) -> Job:
        """A job, limbeck's or another, on this work, whose replies go into a file of that name."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        rows, replies = (self.scratch / f"{name}.{kind}.json" for kind in ("rows", "replies"))
        write_work(rows, work)
        return (job or self.job).model_copy(update={"rows": rows, "replies": replies})


def measure(options: Options, scratch: Path) -> None:
    """Find the others' best settings, let all take turns, then uneven lengths, then limbeck's sweeps.

    Raises:
        InputError: where the model cannot be found.
    """
    cuda = options.device == "cuda"
    job = Job(
        task="sampling", model=folder_of(options.model), scratch=scratch, device=options.device,
        batch=options.slots, seed=options.seed,
    )  # fmt: skip
    setup = Setup(options, scratch, grade_school_work(options), job)
    part = Part(options.results, "sampling_gpu" if cuda else "sampling", _described(setup))
    bench = Bench(part, scratch / "runs")
    contenders = [*_ours(setup), *_others(setup, bench)]
    part.note(sampler_settings={contender.name: _settings(contender.job) for contender in contenders[1:]})
    outcomes = alternate(bench, contenders, options.sampling_repeats)
    summary: dict[str, Any] = {
        "contenders": throughput(outcomes),
        "agreement": _agreement(setup, bench, contenders, outcomes),
        "int8_is_faster_by": int8_over(outcomes),
        "uneven": _uneven(setup, part, [c for c in contenders if c.name in (LIMBECK, VLLM) and outcomes[c.name]]),
        "sweep": _sweep(setup, part),
    }
    part.finish(summary, {} if cuda else headlines(summary))


def _described(setup: Setup) -> dict[str, Any]:
    options, prompts = setup.options, setup.work.timed
    device = {}
    if options.device == "cuda":
        import torch

        device = {"device": torch.cuda.get_device_name()}
    return device | {
        "model": options.model,
        "prompts": len(prompts),
        "prompt_tokens": sum(len(prompt.ids) for prompt in prompts),
        "longest_prompt": max(len(prompt.ids) for prompt in prompts),
        "max_new_tokens": options.max_new_tokens,
        "slots": options.slots,
        "repeats": options.sampling_repeats,
        "trial_prompts": min(options.trial_prompts, len(prompts)),
        "seed": options.seed,
        "not_tried": NOT_TRIED,
    }


def _settings(job: Job) -> dict[str, Any]:
    return {"dtype": job.dtype, "rows_at_once": job.batch} | job.sampler.model_dump(exclude_defaults=True)


def _ours(setup: Setup) -> list[Contender]:
    """limbeck, and its variant of 8 bits where the engine has one."""
    from limbeck.lm.generate import Sampling

    ours = [Contender(LIMBECK, "sampling_worker", setup.job_for("limbeck", setup.work))]
    if "weights" in Sampling.__dataclass_fields__:
        job = setup.job.model_copy(update={"sampler": SamplerSettings(weights="int8")})
        ours.append(Contender(INT8, "sampling_worker", setup.job_for("int8", setup.work, job)))
    return ours


def _others(setup: Setup, bench: Bench) -> Iterator[Contender]:
    """transformers and vLLM at the fastest settings of the trials."""
    options = setup.options
    prompts, tokens = options.trial_prompts, max(options.max_new_tokens // 2, 1)
    few = Contender(TRANSFORMERS, "generate_worker", setup.job_for("trial", setup.work.first(prompts, tokens)))
    best = _fastest(bench, few, *transformers_tries(options.device, options.quick))
    if best is not None:
        yield few._replace(job=setup.job_for("transformers", setup.work, best))
    if options.vllm_python is None:
        say(f"  {bench.part.name}: vLLM left out: {NO_VLLM}")
        bench.part.note(left_out={VLLM: NO_VLLM})
        return
    # More prompts, and as many tokens in all: else more rows at once than there are prompts could not tell.
    job = setup.job_for("trial", setup.work.first(2 * prompts, max(tokens // 2, 1)))
    few = Contender(VLLM, "vllm_worker", job, str(options.vllm_python))
    best = _fastest(bench, few, *vllm_tries(options.device, options.quick))
    if best is not None:
        yield few._replace(job=setup.job_for("vllm", setup.work, best))


def _fastest(bench: Bench, contender: Contender, first: list[Update], then: list[Update]) -> Job | None:
    def run(job: Job, number: int) -> Outcome | None:
        return bench.run(contender._replace(job=job), "trial", number, TRIAL_SECONDS)

    return fastest(run, contender.job, first, then)


def _agreement(setup: Setup, bench: Bench, contenders: list[Contender], outcomes: Outcomes) -> dict[str, Any]:
    """Every contender's replies beside transformers' in fp32, which run once more where bf16 was faster."""
    by_name = {contender.name: contender for contender in contenders}
    job = by_name[TRANSFORMERS].job if TRANSFORMERS in by_name and outcomes[TRANSFORMERS] else None
    if job is None or job.dtype != "fp32":
        settings: Update = {"dtype": "fp32"} if job is not None else {"dtype": "fp32", "batch": 32}
        job = setup.job_for("exact", setup.work, updated(job or setup.job, settings))
        if bench.run(Contender(EXACT, "generate_worker", job), "reference", 0) is None:
            return {}
    exact = read_replies(job.replies)
    finished = [contender for contender in contenders if outcomes[contender.name]]
    return {c.name: agreement(read_replies(c.job.replies), exact)._asdict() for c in finished if c.job != job}


def _uneven(setup: Setup, part: Part, contenders: list[Contender]) -> dict[str, Any]:
    """Lengths from one token to twice the usual limit, whatever the model would write."""
    longest = 2 * setup.options.max_new_tokens
    lengths = uneven_lengths(len(setup.work.timed), longest, setup.options.seed)
    work = setup.work.forced_to(lengths)
    bench = Bench(part, setup.scratch / "uneven", work.num_forced_tokens, kind="uneven repetition")
    forced = [c._replace(job=setup.job_for(f"uneven-{n}", work, c.job)) for n, c in enumerate(contenders)]
    outcomes = alternate(bench, forced, setup.options.sampling_repeats)
    return {
        "longest": longest,
        "tokens": work.num_forced_tokens,
        "useful_rows": useful_rows(outcomes),
        "contenders": throughput(outcomes),
    }


def sweep_points(options: Options, work: Work) -> dict[str, dict[int, tuple[Work, int]]]:
    """By axis and place on it: forced work, and how many slots take it."""
    number, slots = max(len(work.timed) // 2, 1), options.slots
    tokens = min(SWEEP_TOKENS, options.max_new_tokens)

    def sizes(largest: int, steps: int) -> list[int]:
        return sorted({max(largest >> step, 1) for step in range(steps)})

    some = max(number // 2, 1)
    prompts = {n: (work.forced_to([tokens] * n), slots) for n in sizes(number, 1 if options.tiny else 4)}
    if options.tiny:
        return {"prompts": prompts}
    return {
        "prompts": prompts,
        "new_tokens": {n: (work.forced_to([n] * slots), slots) for n in sizes(2 * options.max_new_tokens, 5)},
        "slots": {n: (work.forced_to([tokens] * some), n) for n in sizes(some, 5)},
    }


def _sweep(setup: Setup, part: Part) -> dict[str, Any]:
    """limbeck alone: more prompts, more new tokens, more slots, each with the rest held; a process each."""
    found: dict[str, list[dict[str, Any]]] = {}
    for axis, points in sweep_points(setup.options, setup.work).items():
        for x, (work, slots) in points.items():
            bench = Bench(part, setup.scratch / f"{axis}-{x}", work.num_forced_tokens, kind=axis)
            job = setup.job_for("sweep", work, setup.job.model_copy(update={"batch": slots}))
            outcome = bench.run(Contender(LIMBECK, "sampling_worker", job), axis, x)
            if outcome is not None:
                point = {"x": x, "seconds": outcome.seconds, "tokens": outcome.target_tokens}
                found.setdefault(axis, []).append(point | {"tokens_per_second": point["tokens"] / point["seconds"]})
    if found:
        results = setup.options.results
        path = SAMPLING_FIGURE if results == RESULTS else results.with_suffix(".sampling.svg")
        draw(found, path, _TITLES, _curves)
    return sweep_lines(found)


def _curves(points: list[dict[str, Any]]) -> list[tuple[list[float], str]]:
    return [
        ([point["seconds"] for point in points], "seconds"),
        ([point["tokens_per_second"] for point in points], "tokens a second"),
    ]
