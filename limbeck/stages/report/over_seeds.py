"""Runs whose recipes differ in name and seed alone, taken together: the mean over seeds, and how far they lie apart.

Means and spreads of what the verdicts say, and nothing else: a mean of a few trainings has no interval here. What is
pooled over prompts, and tested, `limbeck compare` says. Refuses to mix runs of different recipes.
"""

from collections.abc import Iterable, Mapping
from statistics import fmean, stdev
from typing import NamedTuple

from limbeck.recipe.part import but_for_seed
from limbeck.records.verdict import Comparison
from limbeck.stages.report import wording
from limbeck.stages.report.gather import Gathered
from limbeck.stages.report.tables import Cell, Column, Table

Runs = Mapping[str, Gathered]


class _Compared(NamedTuple):
    candidate: str
    baseline: str
    judge: str


def groups_of(runs: Runs) -> tuple[tuple[str, ...], ...]:
    """Names of runs whose recipes are the same but for name and seed; only groups of two seeds or more.

    Of two runs of the same seed the first counts: the other is no further training.
    """
    found: list[tuple[dict[str, object], dict[int, str]]] = []
    for name, run in runs.items():
        recipe = but_for_seed(run.recipe)
        seeds = next((seeds for known, seeds in found if known == recipe), None)
        if seeds is None:
            found.append((recipe, {run.recipe.seed: name}))
        else:
            seeds.setdefault(run.recipe.seed, name)
    return tuple(tuple(seeds.values()) for _, seeds in found if len(seeds) > 1)


def seeds_table(runs: Runs) -> Table | None:
    """A row a group and comparison on test prompts that all runs of the group have; None where there is no group."""
    columns = (Column("Model", "head"), Column("Runs", "text"), Column("Judge", "text"), Column("Mean difference"),
               Column("Mean win rate"))  # fmt: skip
    rows = tuple(row for group in groups_of(runs) for row in _rows({name: runs[name] for name in group}))
    return Table(columns, rows) if rows else None


def _rows(group: Runs) -> Iterable[tuple[Cell, ...]]:
    by_run = [_by_name(run) for run in group.values()]
    for key in by_run[0]:
        if not all(key in each for each in by_run):
            continue
        found = [each[key] for each in by_run]
        differences = [comparison.difference.estimate for comparison in found]
        rates = [comparison.win_rate.estimate for comparison in found]
        scale, unit = (100, " points") if key.judge == "verifier" else (1, "")
        decimals = 1 if key.judge == "verifier" else 2
        yield (
            Cell(key.candidate, f"against {key.baseline}"),
            Cell(f"{len(group)} seeds", ", ".join(group)),
            Cell(key.judge),
            _spread([scale * each for each in differences], decimals, unit, signed=True),
            _spread([100 * each for each in rates], 1, "%", signed=False),
        )


def _by_name(run: Gathered) -> dict[_Compared, Comparison]:
    return {_Compared(c.candidate, c.baseline, c.judge): c for c in run.verdict.comparisons if c.split == "test"}


def _spread(values: list[float], decimals: int, unit: str, *, signed: bool) -> Cell:
    write = wording.signed if signed else wording.plain
    low, high = write(min(values), decimals), write(max(values), decimals)
    spread = wording.plain(stdev(values), decimals)
    return Cell(f"{write(fmean(values), decimals)}{unit}", f"sd {spread}\n{low} to {high}")
