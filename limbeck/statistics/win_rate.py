"""The win rate of a candidate against a baseline on the same rows, from two lists of scores.

Refuses to know which judge gave the scores. A row that either side has no score for leaves both sides and is counted;
it is never a loss.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from limbeck.statistics.intervals import clustered_proportion, paired_difference
from limbeck.statistics.outcomes import Ties, outcomes_of, take_labels


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
    The interval is that of `paired_difference` (percentile bootstrap over prompts; see there for clusters and strata);
    where every point is 0, or every one 1, that would have no width, and it is Wilson's with one trial a prompt.
    """
    found = outcomes_of(baseline_scores, candidate_scores, ties)
    num_rows = len(baseline_scores)
    rate = paired_difference(
        np.zeros(len(found.rows)),
        found.points,
        seed=seed,
        strata=take_labels(strata, found.rows, num_rows, "strata"),
        clusters=take_labels(clusters, found.rows, num_rows, "clusters"),
        resamples=resamples,
        confidence=confidence,
    )
    low, high = rate.low, rate.high
    if rate.estimate in (0.0, 1.0):  # no resample differs from the whole, which is no certainty
        _, low, high, *_ = clustered_proportion(
            found.points, take_labels(clusters, found.rows, num_rows, "clusters"), confidence
        )
    wins, losses = int((found.signs > 0).sum()), int((found.signs < 0).sum())
    return WinRate(
        estimate=rate.estimate,
        low=low,
        high=high,
        wins=wins,
        ties=len(found.rows) - wins - losses,
        losses=losses,
        unscored=num_rows - len(found.rows),
        num_prompts=rate.num_prompts,
    )
