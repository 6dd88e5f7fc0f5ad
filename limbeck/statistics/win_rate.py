"""The win rate of a candidate against a baseline on the same rows, from two lists of scores.

Refuses to know which judge gave the scores. A row that either side has no score for leaves both sides and is counted;
it is never a loss.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from limbeck.errors import InputError
from limbeck.statistics.intervals import paired_difference
from limbeck.statistics.resampling import checked_pair

Ties = Literal["half", "loss"]


class WinRate(NamedTuple):
    """`estimate` is (wins + ties / 2) / (wins + ties + losses) in rows, or wins / the same where a tie is a loss.

    The interval resamples the `num_prompts` prompts that have a scored row; `unscored` rows are in none of the counts.
    """

    estimate: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int
    unscored: int
    num_prompts: int


def win_rate(
    baseline_scores: Sequence[float | None],
    candidate_scores: Sequence[float | None],
    *,
    seed: int,
    ties: Ties = "half",
    strata: Sequence[Hashable] | None = None,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> WinRate:
    """Compare row by row: higher wins, equal ties, None is unscored.

    Ties as half a win is the Mann-Whitney convention (Mann and Whitney 1947) and the one under which swapping the sides
    turns r into 1 - r and a model against itself is 0.5; `ties="loss"` asks for strict wins and has neither property.
    The interval is that of `paired_difference` (percentile bootstrap over prompts; see there for clusters and strata).
    """
    if ties not in ("half", "loss"):
        raise InputError(f'ties must be "half" or "loss", not {ties!r}.')
    kept = _scored_rows(baseline_scores, candidate_scores)
    pair = checked_pair(_take_scores(baseline_scores, kept), _take_scores(candidate_scores, kept))
    signs = np.sign(pair.b - pair.a)
    values = (1 + signs) / 2 if ties == "half" else (signs > 0).astype(np.float64)
    rate = paired_difference(
        np.zeros(len(values)),
        values,
        seed=seed,
        strata=_take(strata, kept, len(baseline_scores), "strata"),
        clusters=_take(clusters, kept, len(baseline_scores), "clusters"),
        resamples=resamples,
        confidence=confidence,
    )
    wins, losses = int((signs > 0).sum()), int((signs < 0).sum())
    return WinRate(
        estimate=rate.estimate,
        low=rate.low,
        high=rate.high,
        wins=wins,
        ties=len(kept) - wins - losses,
        losses=losses,
        unscored=len(baseline_scores) - len(kept),
        num_prompts=rate.num_prompts,
    )


def _scored_rows(baseline: Sequence[float | None], candidate: Sequence[float | None]) -> list[int]:
    """The rows that both sides have a score for."""
    if len(baseline) != len(candidate):
        raise InputError(f"Both sides must be scored on the same rows: there are {len(baseline)} and {len(candidate)}.")
    kept = [row for row, (a, b) in enumerate(zip(baseline, candidate, strict=True)) if a is not None and b is not None]
    if not kept:
        raise InputError(f"None of {len(baseline)} rows is scored on both sides: there is no win rate to give.")
    return kept


def _take_scores(scores: Sequence[float | None], rows: list[int]) -> list[float]:
    """The scores of the rows that were kept. NaN is an error: a judge that could not say gives None."""
    taken = []
    for row in rows:
        score = scores[row]
        if score is None or not math.isfinite(score):
            raise InputError(f"Row {row} has the score {score}, which is not a finite number; an unscored row is None.")
        taken.append(score)
    return taken


def _take(labels: Sequence[Hashable] | None, rows: list[int], num_rows: int, name: str) -> list[Hashable] | None:
    """The labels of the rows that were kept."""
    if labels is None:
        return None
    if len(labels) != num_rows:
        raise InputError(f"{name} must have one label a row: {len(labels)} labels for {num_rows} rows.")
    return [labels[row] for row in rows]
