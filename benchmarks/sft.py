"""SFT on a CPU, loss on responses only: limbeck and TRL, padded and packed, in turn."""

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare import (
    AS_IT_COMES,
    AS_IT_COMES_SETTINGS,
    BEST,
    KEEP_FREED_MEMORY,
    LIMBECK,
    NOT_TRIED,
    Bench,
    Change,
    Contender,
    Outcomes,
    alternate,
    best_settings,
    changes,
    starts,
)
from benchmarks.contract import Job, Rows, write_rows
from benchmarks.dpo import grouping_helps
from benchmarks.inputs import ROWS_A_STEP, demonstration_rows, folder_of
from benchmarks.options import Options
from benchmarks.results import Part
from benchmarks.summary import median_ratio
from benchmarks.workload import Row

PACKED = "TRL, packed, best settings found"
# SFTConfig's default; a packed row of this length holds about as many demonstrations as a step of the others.
PACKED_TO = 1024


def measure(options: Options, scratch: Path) -> None:
    """Find TRL's best settings, padded and packed, then let the contenders take turns.

    Raises:
        InputError: where the Alpaca file is missing, or is none.
    """
    rows = demonstration_rows(options, options.sft_rows)
    job = _job(options, rows, scratch)
    part = Part(options.results, "sft", _described(options, rows))
    bench = Bench(part, scratch, sum(row.num_targets for row in rows.timed))
    contenders = [
        Contender(LIMBECK, "limbeck_worker", job),
        Contender(AS_IT_COMES, "trl_worker", job.model_copy(update={"trl": AS_IT_COMES_SETTINGS})),
        *_best_contenders(bench, job, options.quick),
    ]
    part.note(trl_settings={c.name: c.job.trl.model_dump() for c in contenders[1:]})
    summary = summarise(alternate(bench, contenders, options.repeats))
    part.finish(summary, headlines(summary))


def _best_contenders(bench: Bench, job: Job, quick: bool) -> list[Contender]:
    """TRL at its best settings, padded, and packed: one packed row a step."""
    few = job.model_copy(update={"rows": job.scratch / "trial.json"})
    contenders = []
    tries = [] if quick else changes(job.batch)
    best = best_settings(bench, few, starts(precompute_reference=False), tries)
    if best is not None:
        best = best.model_copy(update={"group_by_length": grouping_helps(bench, job.model_copy(update={"trl": best}))})
        contenders.append(Contender(BEST, "trl_worker", job.model_copy(update={"trl": best})))
    tries = [] if quick else [Change({"attention": "eager"}), KEEP_FREED_MEMORY]
    packed_starts = starts(precompute_reference=False, packed_to=PACKED_TO)
    packed = best_settings(bench, few.model_copy(update={"batch": 1}), packed_starts, tries)
    if packed is not None:
        contenders.append(Contender(PACKED, "trl_worker", job.model_copy(update={"batch": 1, "trl": packed})))
    return contenders


def _job(options: Options, rows: Rows, scratch: Path) -> Job:
    scratch.mkdir(parents=True, exist_ok=True)
    write_rows(scratch / "rows.json", rows)
    write_rows(scratch / "trial.json", Rows(rows.warm_up, _few(options, rows)))
    return Job(
        task="sft", model=folder_of(options.model), scratch=scratch, rows=scratch / "rows.json",
        batch=ROWS_A_STEP, epochs=1, seed=options.seed,
    )  # fmt: skip


def _few(options: Options, rows: Rows) -> list[Row]:
    """Every n-th row: those of a trial."""
    return rows.timed[:: max(len(rows.timed) // (2 * options.trial_rows), 1)]


def _described(options: Options, rows: Rows) -> dict[str, Any]:
    return {
        "model": options.model,
        "rows": len(rows.timed),
        "data": options.data.name,
        "rows_a_step": ROWS_A_STEP,
        "repeats": options.repeats,
        "trial_rows": len(_few(options, rows)),
        "seed": options.seed,
        "target_tokens": sum(row.num_targets for row in rows.timed),
        "prompt_tokens": sum(len(row.prompt) for row in rows.timed),
        "not_tried": NOT_TRIED,
    }


def summarise(outcomes: Outcomes) -> dict[str, Any]:
    """Medians by contender, and limbeck over each of the others; how far TRL's packed rows see each other."""
    ours = {n: run.target_tokens / run.seconds for n, run in outcomes.get(LIMBECK, {}).items()}
    our_memory = {n: float(run.peak_memory_bytes) for n, run in outcomes.get(LIMBECK, {}).items()}
    contenders: dict[str, Any] = {}
    for name, runs in outcomes.items():
        if not runs:
            continue
        speeds = {n: run.target_tokens / run.seconds for n, run in runs.items()}
        memory = {n: float(run.peak_memory_bytes) for n, run in runs.items()}
        contenders[name] = {
            "target_tokens_per_second": median(speeds.values()),
            "slowest_and_fastest": [min(speeds.values()), max(speeds.values())],
            "optimizer_steps": next(iter(runs.values())).steps,
            "peak_memory_gib": median(memory.values()) / 2**30,
        }
        if name != LIMBECK:
            contenders[name]["limbeck_is_faster_by"] = median_ratio(ours, speeds)
            contenders[name]["limbeck_peak_memory_over"] = median_ratio(our_memory, memory)
    leaks = [run.facts["leak"] for run in outcomes.get(PACKED, {}).values()]
    return {"contenders": contenders, "leak_between_packed_rows_nats": max(leaks) if leaks else None}


def headlines(summary: dict[str, Any]) -> dict[str, float | None]:
    """The figures at the top of the results."""
    found = summary["contenders"]
    return {
        "sft_target_tokens_per_second_over_trl": found.get(AS_IT_COMES, {}).get("limbeck_is_faster_by"),
        "sft_target_tokens_per_second_over_trl_best": found.get(BEST, {}).get("limbeck_is_faster_by"),
        "sft_target_tokens_per_second_over_trl_packed": found.get(PACKED, {}).get("limbeck_is_faster_by"),
    }
