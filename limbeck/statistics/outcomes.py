"""Who won each row: two lists of scores made into points, unscored rows left out and counted.

Refuses to know which judge gave the scores. A row that either side has no score for leaves both sides; it is never a
loss.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from limbeck.errors import InputError
from limbeck.statistics.resampling import FloatArray, IntArray, checked_pair

Ties = Literal["half", "loss"]


class Outcomes(NamedTuple):
    """`rows` that both sides are scored on, shape (kept,); `signs` of candidate - baseline there; and their `points`:
    1 for a win, 0 for a loss, and 1/2 or 0 for a tie.
    """

    rows: IntArray
    signs: FloatArray
    points: FloatArray


def outcomes_of(
    baseline_scores: Sequence[float | None], candidate_scores: Sequence[float | None], ties: Ties
) -> Outcomes:
    """Compare row by row: higher wins, equal ties, None is unscored.

    Raises:
        InputError: the sides differ in length, no row is scored on both, or a score is no finite number.
    """
    if ties not in ("half", "loss"):
        raise InputError(f'ties must be "half" or "loss", not {ties!r}.')
    rows = _scored_rows(baseline_scores, candidate_scores)
    pair = checked_pair(_take_scores(baseline_scores, rows), _take_scores(candidate_scores, rows))
    signs = np.sign(pair.b - pair.a)
    points = (1 + signs) / 2 if ties == "half" else (signs > 0).astype(np.float64)
    return Outcomes(np.asarray(rows, dtype=np.int64), signs, points)


def take_labels(
    labels: Sequence[Hashable] | None, rows: IntArray, num_rows: int, name: str
) -> Sequence[Hashable] | None:
    """The labels of the rows that were kept; None stays None."""
    if labels is None:
        return None
    if len(labels) != num_rows:
        raise InputError(f"{name} must have one label a row: {len(labels)} labels for {num_rows} rows.")
    return labels if len(rows) == num_rows else [labels[row] for row in rows]


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
