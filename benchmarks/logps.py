"""Exactness at step 0: the same pairs scored by limbeck, by TRL, and one sequence at a time."""

from pathlib import Path
from typing import Any

from benchmarks.compare import Bench, Contender
from benchmarks.contract import Job, TrlSettings, write_rows
from benchmarks.dpo import described
from benchmarks.inputs import PAIRS_A_STEP, folder_of, preference_rows
from benchmarks.options import Options
from benchmarks.results import Part
from benchmarks.summary import differences

Scores = dict[str, list[float]]
ONE_AT_A_TIME = "one sequence at a time"


def measure(options: Options, scratch: Path) -> None:
    """Score all pairs in fp32 and in bf16, each way, and compare."""
    rows = preference_rows(options, options.pairs)
    settings = described(options, rows.timed)
    settings = {key: value for key, value in settings.items() if key not in ("epochs", "repeats", "trial_rows")}
    part = Part(options.results, "logps", settings)
    scratch.mkdir(parents=True, exist_ok=True)
    write_rows(scratch / "rows.json", rows)
    job = Job(
        task="logps", model=folder_of(options.model), scratch=scratch, rows=scratch / "rows.json", batch=PAIRS_A_STEP
    )
    bench = Bench(part, scratch)
    found: dict[str, Scores] = {}
    for number, contender in enumerate(_contenders(job)):
        outcome = bench.run(contender, "scoring", number)
        if outcome is not None:
            found[contender.name] = outcome.facts["logps"]
    summary = summarise(found)
    part.finish(summary, {"max_abs_logps_difference_fp32": summary["max_abs_logps_difference_fp32"]})


def _contenders(job: Job) -> list[Contender]:
    """Who scores: three ways in fp32; in bf16 the weights, and TRL's autocast too, since that is its default."""
    fp32, bf16 = job.model_copy(update={"dtype": "fp32"}), job.model_copy(update={"dtype": "bf16"})
    trl_fp32 = TrlSettings(autocast_bf16=False)
    trl_bf16 = TrlSettings(weights="bf16", autocast_bf16=False)
    return [
        Contender("limbeck, fp32", "limbeck_worker", fp32),
        Contender("TRL, fp32", "trl_worker", job.model_copy(update={"trl": trl_fp32})),
        Contender(f"{ONE_AT_A_TIME}, fp32", "plain_worker", fp32),
        Contender("limbeck, bf16", "limbeck_worker", bf16),
        Contender("TRL, bf16", "trl_worker", job.model_copy(update={"trl": trl_bf16})),
        Contender("TRL, bf16 autocast", "trl_worker", job.model_copy(update={"trl": TrlSettings()})),
        Contender(f"{ONE_AT_A_TIME}, bf16", "plain_worker", bf16),
    ]


def summarise(found: dict[str, Scores]) -> dict[str, Any]:
    """Differences in nats a sequence; every bf16 way is compared with one sequence at a time in fp32."""
    pairs = {
        "limbeck and TRL, fp32": ("limbeck, fp32", "TRL, fp32"),
        "limbeck and one at a time, fp32": ("limbeck, fp32", f"{ONE_AT_A_TIME}, fp32"),
        "TRL and one at a time, fp32": ("TRL, fp32", f"{ONE_AT_A_TIME}, fp32"),
    }
    exact = f"{ONE_AT_A_TIME}, fp32"
    pairs |= {f"{name} and fp32": (name, exact) for name in found if name.split(", ")[-1].startswith("bf16")}
    compared = {
        name: differences(found[a], found[b])._asdict() for name, (a, b) in pairs.items() if a in found and b in found
    }
    ours = [compared[name]["largest"] for name in list(pairs)[:2] if name in compared]
    sizes = [abs(value) for scores in found.get(exact, {}).values() for value in scores]
    return {
        "differences_nats": compared,
        "mean_logps_nats": sum(sizes) / len(sizes) if sizes else None,
        "max_abs_logps_difference_fp32": max(ours) if len(ours) == 2 else None,  # both comparisons, or no claim
    }
