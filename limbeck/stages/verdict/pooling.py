"""Runs of one recipe under several seeds, taken together: pooled arm by arm, each seed beside it.

Training under another seed gives another model, and often other prompts. Where a prompt occurs in two runs it is one
piece of evidence; where none does, the seeds are strata. Either way the interval is about these models on other prompts
like these. How far another *training* would fall from them is seen in how far the seeds lie apart.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from limbeck.likeness import prompt_identity
from limbeck.records import PromptRow
from limbeck.records.verdict import Comparison
from limbeck.stages.verdict.comparing import corrected, rows_of
from limbeck.stages.verdict.models import BASELINE, Model, asked_of
from limbeck.stages.verdict.paired import Named, PairedRows, Terms, compare


@dataclass(frozen=True)
class FinishedRun:
    """What one run left: its held-out prompts, and its models by name."""

    name: str
    rows: Sequence[PromptRow]
    models: dict[str, Model]
    samples: int


@dataclass(frozen=True)
class Pooled:
    """One arm over all runs, and in each; `spread` is the sd of the runs' differences, None of fewer than two."""

    together: Comparison
    by_run: tuple[Comparison | None, ...]
    spread: float | None


def pool(
    runs: Sequence[FinishedRun], arms: Sequence[str], judge: str, terms: Terms, baseline: str = BASELINE
) -> list[Pooled]:
    """Compare every arm with `baseline` over all runs; p-values are corrected for the number of arms (Holm 1979)."""
    parts = {arm: [run_rows(run, arm, judge, baseline) for run in runs] for arm in arms}
    together = _family({arm: joined(runs, parts[arm]) for arm in arms}, judge, terms, baseline)
    alone = [_family({arm: parts[arm][at] for arm in arms}, judge, terms, baseline) for at in range(len(runs))]
    return [_pooled(together[arm], [each.get(arm) for each in alone]) for arm in arms if arm in together]


def _family(rows: Mapping[str, PairedRows], judge: str, terms: Terms, baseline: str) -> dict[str, Comparison]:
    """The arms compared with the baseline, by name, corrected for their number."""
    compared = [compare(each, Named(arm, baseline, judge), terms) for arm, each in rows.items()]
    return {c.candidate: c for c in corrected([c for c in compared if c is not None], rows.keys())}


def _pooled(together: Comparison, alone: Sequence[Comparison | None]) -> Pooled:
    differences = [c.difference.estimate for c in alone if c is not None]
    return Pooled(together, tuple(alone), statistics.stdev(differences) if len(differences) > 1 else None)


def run_rows(run: FinishedRun, arm: str, judge: str, baseline: str = BASELINE) -> PairedRows:
    """One run's rows for an arm beside the baseline."""
    return rows_of(run.models[baseline], run.models[arm], judge, asked_of(run.rows, run.samples))


def joined(runs: Sequence[FinishedRun], parts: Sequence[PairedRows]) -> PairedRows:
    """All rows under one another; prompts are the same by content, and seeds are strata where they share none."""
    identities = [{row.id: prompt_identity(row) for row in run.rows} for run in runs]
    asked = [set(each.values()) for each in identities]
    apart = sum(map(len, asked)) == len(set().union(*asked))
    return PairedRows(
        baseline=[score for part in parts for score in part.baseline],
        candidate=[score for part in parts for score in part.candidate],
        baseline_lengths=[length for part in parts for length in part.baseline_lengths],
        candidate_lengths=[length for part in parts for length in part.candidate_lengths],
        prompts=[own[str(id)] for own, part in zip(identities, parts, strict=True) for id in part.prompts],
        topics=[topic for part in parts for topic in part.topics],
        exact=parts[0].exact,
        strata=[at for at, part in enumerate(parts) for _ in part.prompts] if apart else None,
    )
