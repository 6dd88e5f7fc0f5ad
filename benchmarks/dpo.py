"""DPO on a CPU: reference pass and training, limbeck and TRL in turn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare import (
    AS_IT_COMES,
    AS_IT_COMES_SETTINGS,
    BEST,
    LIMBECK,
    NOT_TRIED,
    Bench,
    Contender,
    Outcomes,
    alternate,
    best_settings,
    changes,
    starts,
)
from benchmarks.contract import Job, TrlSettings, write_rows
from benchmarks.inputs import PAIRS_A_STEP, folder_of, preference_rows, source_of_ids
from benchmarks.options import Options
from benchmarks.processes import RunFailedError, run_worker
from benchmarks.results import Part
from benchmarks.summary import median_ratio, over_whole_batch
from benchmarks.workload import Row, Shape, column_means
from limbeck.console import say


def measure(options: Options, scratch: Path) -> None:
    """Find TRL's best settings, then let the contenders take turns; results are kept as they come."""
    rows = preference_rows(options, options.pairs)
    part = Part(options.results, "dpo", described(options, rows.timed) | {"not_tried": NOT_TRIED})
    scratch.mkdir(parents=True, exist_ok=True)
    write_rows(scratch / "rows.json", rows)
    write_rows(scratch / "trial.json", preference_rows(options, options.trial_rows))
    job = Job(
        task="dpo", model=folder_of(options.model), scratch=scratch, rows=scratch / "rows.json",
        batch=PAIRS_A_STEP, epochs=options.epochs, seed=options.seed,
    )  # fmt: skip
    bench = Bench(part, scratch, options.epochs * sum(row.num_targets for row in rows.timed))
    best = find_best(bench, job, scratch / "trial.json", options)
    contenders = [
        Contender(LIMBECK, "limbeck_worker", job),
        Contender(AS_IT_COMES, "trl_worker", job.model_copy(update={"trl": AS_IT_COMES_SETTINGS})),
    ]
    if best is not None:
        contenders.append(Contender(BEST, "trl_worker", job.model_copy(update={"trl": best})))
    part.note(trl_settings={c.name: c.job.trl.model_dump() for c in contenders[1:]})
    summary = summarise(alternate(bench, contenders, options.repeats))
    part.finish(summary, headlines(summary, part.runs))


def described(options: Options, rows: list[Row]) -> dict[str, Any]:
    """The settings that figures depend on."""
    shapes = [Shape(len(row.prompt), *map(len, row.responses)) for row in rows]
    return {
        "model": options.model,
        "pairs": len(rows),
        "epochs": options.epochs,
        "pairs_a_step": PAIRS_A_STEP,
        "repeats": options.repeats,
        "trial_rows": options.trial_rows,
        "seed": options.seed,
        "mean_tokens": dict(zip(Shape._fields, column_means(shapes), strict=True)),
        "longest_tokens": dict(zip(Shape._fields, map(max, zip(*shapes, strict=True)), strict=True)),
        "token_ids": source_of_ids(options),
    }


def find_best(bench: Bench, job: Job, trial: Path, options: Options) -> TrlSettings | None:
    """TRL's fastest settings by trials on a few pairs, and grouping by length where that saves padding."""
    few = job.model_copy(update={"rows": trial, "epochs": 1})
    tries = [] if options.quick else changes(job.batch)
    best = best_settings(bench, few, starts(precompute_reference=True), tries)
    if best is None:
        return None
    return best.model_copy(update={"group_by_length": grouping_helps(bench, job.model_copy(update={"trl": best}))})


def grouping_helps(bench: Bench, job: Job) -> bool:
    """Whether batches of rows of like length hold fewer padded tokens; counted on all rows, which no trial runs on."""
    counts = {}
    for grouped in (False, True):
        trl = job.trl.model_copy(update={"group_by_length": grouped})
        folder = bench.scratch / f"count-{grouped}"
        try:
            counting = job.model_copy(update={"task": "padding", "trl": trl, "scratch": folder})
            counts[grouped] = run_worker("trl_worker", counting).facts["padded_tokens"]
        except RunFailedError as error:
            say(f"  {bench.part.name}: padding cannot be counted: {error}")
            return False
    bench.part.note(padded_tokens={"random order": counts[False], "grouped by length": counts[True]})
    return bool(counts[True] < counts[False])


def summarise(outcomes: Outcomes) -> dict[str, Any]:
    """Medians by contender, and limbeck over each of the others."""
    ours = outcomes.get(LIMBECK, {})
    contenders: dict[str, Any] = {}
    for name, runs in outcomes.items():
        if not runs:
            continue
        speeds = {n: run.rows / run.seconds for n, run in runs.items()}
        memory = {n: float(run.peak_memory_bytes) for n, run in runs.items()}
        contenders[name] = {
            "pairs_per_second": median(speeds.values()),
            "slowest_and_fastest": [min(speeds.values()), max(speeds.values())],
            "peak_memory_gib": median(memory.values()) / 2**30,
            "peak_device_memory_gib": median(run.peak_device_memory_bytes for run in runs.values()) / 2**30,
        }
        if name != LIMBECK:
            our_speeds = {n: run.rows / run.seconds for n, run in ours.items()}
            contenders[name]["limbeck_is_faster_by"] = median_ratio(our_speeds, speeds)
            our_memory = {n: float(run.peak_memory_bytes) for n, run in ours.items()}
            contenders[name]["limbeck_peak_memory_over"] = median_ratio(our_memory, memory)
    shares = [share_of_peak(run.facts, run.seconds) for run in ours.values()]
    return {"contenders": contenders, "share_of_matmul_peak": median(shares) if shares else None}


def share_of_peak(facts: dict[str, Any], seconds: float) -> float:
    """Needed operations a second over the measured rate of matrix products, the faster of bf16 and fp32."""
    return float(facts["model_flops"] / seconds / max(facts["matmul_flops_per_second"].values()))


def headlines(summary: dict[str, Any], runs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The figures at the top of the results. `runs`: all of the part, for those that follow from trials."""
    as_it_comes = summary["contenders"].get(AS_IT_COMES, {})
    best = summary["contenders"].get(BEST, {})
    return {
        "dpo_pairs_per_second_over_trl_default": as_it_comes.get("limbeck_is_faster_by"),
        "dpo_pairs_per_second_over_trl_best": best.get("limbeck_is_faster_by"),
        "dpo_pairs_per_second_over_trl_best_whole_batch": over_whole_batch(runs, best.get("limbeck_is_faster_by")),
        "peak_memory_over_trl": as_it_comes.get("limbeck_peak_memory_over"),
        "peak_memory_over_trl_best": best.get("limbeck_peak_memory_over"),
        "share_of_matmul_peak": summary["share_of_matmul_peak"],
    }
