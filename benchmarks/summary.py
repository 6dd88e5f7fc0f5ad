"""What figures of single runs come to: ratios of alternating runs, medians, straight lines. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple


def median_ratio(over: Mapping[int, float], under: Mapping[int, float]) -> float | None:
    """Median over repetitions of over / under, of the repetitions that both have; None where they share none.

    Contenders take turns, so that both sides of one ratio saw the machine in much the same state.
    """
    ratios = [over[repetition] / under[repetition] for repetition in over if repetition in under]
    return median(ratios) if ratios else None


class Line(NamedTuple):
    """y = intercept + slope x by least squares; `largest_deviation` is relative: |y - line| / line at its worst."""

    slope: float
    intercept: float
    largest_deviation: float


def fit_line(xs: Sequence[float], ys: Sequence[float]) -> Line:
    """Least squares, weighted by 1 / y squared, so that every point counts by its relative error."""
    weights = [1 / y**2 for y in ys]
    total = sum(weights)
    mean_x = sum(w * x for w, x in zip(weights, xs, strict=True)) / total
    mean_y = sum(w * y for w, y in zip(weights, ys, strict=True)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, x in zip(weights, xs, strict=True))
    slope = sum(w * (x - mean_x) * (y - mean_y) for w, x, y in zip(weights, xs, ys, strict=True)) / spread
    intercept = mean_y - slope * mean_x
    deviations = [abs(y - intercept - slope * x) / abs(intercept + slope * x) for x, y in zip(xs, ys, strict=True)]
    return Line(slope, intercept, max(deviations))


def cliff(seconds_per_unit: Sequence[float]) -> float:
    """Largest seconds per unit over their median: near 1 where no size is out of line."""
    return max(seconds_per_unit) / median(seconds_per_unit)


class Differences(NamedTuple):
    """Absolute differences between two sets of numbers."""

    largest: float
    mean: float


def differences(ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]) -> Differences:
    """Compare values by row id, place by place.

    Raises:
        ValueError: where the two do not hold the same rows.
    """
    if ours.keys() != theirs.keys():
        raise ValueError("the two sides scored different rows")
    found = [abs(a - b) for id_ in ours for a, b in zip(ours[id_], theirs[id_], strict=True)]
    return Differences(max(found), fmean(found))


def over_whole_batch(runs: Iterable[Mapping[str, Any]], over_best: float | None) -> float | None:
    """limbeck over TRL's fastest settings that take the whole batch in one micro-batch: an estimate from trials.

    `over_best` is the measured ratio over the best settings, which took part in turns; trials, on fewer rows, say how
    much slower the fastest at the whole batch was. None where no such trial came to its end.
    """
    trials = [run for run in runs if "trial" in run and "outcome" in run]
    whole = [run for run in trials if run["settings"]["micro_batch"] in (None, run["settings"]["batch"])]
    if over_best is None or not whole:
        return None
    fastest, fastest_whole = (min(run["outcome"]["seconds"] for run in some) for some in (trials, whole))
    return float(over_best * fastest_whole / fastest)
