"""How far a judge can be trusted: how often it is right, whether it knows how sure it may be, and what it could do by
counting words alone.

A learned judge gives a pair a margin: the reward of the chosen minus that of the rejected, in log-odds (Bradley and
Terry 1952). Which response stands first in a pair says nothing, so all measures here are the same for a pair and for
the pair swapped with its margin negated. Refuses to know how a judge was made.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from limbeck.errors import InputError
from limbeck.statistics.intervals import (
    ClusteredProportion,
    Interval,
    PairedDifference,
    clustered_proportion,
    paired_difference,
    wilson,
)
from limbeck.statistics.resampling import FloatArray, Scores


class JudgeAccuracy(NamedTuple):
    """A judge and the rule "the longer one is better" on the same pairs with known answers.

    `difference` is the judge's accuracy minus the rule's. `judge_ties` and `longer_ties`: shares of the pairs with a
    margin of 0, and with equal lengths; each such pair counts half.
    """

    judge: ClusteredProportion
    longer: ClusteredProportion
    difference: PairedDifference
    judge_ties: float
    longer_ties: float


class Bin(NamedTuple):
    """Pairs of which the judge was `low` to `high` sure: mean confidence, and how often it was right; both None where
    there is no such pair.
    """

    low: float
    high: float
    num_pairs: int
    confidence: float | None
    accuracy: Interval | None


class Calibration(NamedTuple):
    """`expected_error`: mean over pairs of |accuracy - confidence| of their bin, 0 is best. `log_loss`: nats a pair, ln
    2 for a judge that knows nothing. `brier`: mean squared error of the probability, 1/4 for such a judge.
    """

    expected_error: float
    log_loss: float
    brier: float
    bins: tuple[Bin, ...]


def judge_accuracy(
    margins: Scores,
    chosen_lengths: Scores,
    rejected_lengths: Scores,
    *,
    seed: int,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> JudgeAccuracy:
    """Compare a judge with the longer-is-chosen rule, pair by pair; an undecided pair is half right.

    `margins`: reward of the chosen minus that of the rejected. Lengths in any one unit. `clusters` names each pair's
    prompt. Accuracies have Wilson's interval, the difference a bootstrap over prompts.

    Raises:
        InputError: there is no pair, the lists differ in length, or a number is not finite.
    """
    checked = _checked(margins, "margin")
    chosen, rejected = _checked(chosen_lengths, "chosen length"), _checked(rejected_lengths, "rejected length")
    if not len(checked) == len(chosen) == len(rejected):
        raise InputError(
            f"Every pair needs a margin and two lengths: there are {len(checked)}, {len(chosen)} and {len(rejected)}."
        )
    judged, longer = _points(checked), _points(chosen - rejected)
    return JudgeAccuracy(
        judge=clustered_proportion(judged, clusters, confidence),
        longer=clustered_proportion(longer, clusters, confidence),
        difference=paired_difference(
            longer, judged, seed=seed, clusters=clusters, resamples=resamples, confidence=confidence
        ),
        judge_ties=float((judged == 0.5).mean()),
        longer_ties=float((longer == 0.5).mean()),
    )


def calibration(margins: Scores, *, num_bins: int = 10, confidence: float = 0.95) -> Calibration:
    """Compare how sure sigmoid(margin) is of the chosen with how often the chosen is preferred.

    Confidence is the probability of the response that the judge prefers, 1/2 to 1, in bins of equal width; a pair is
    right where the margin is above 0, half right at 0 (Guo et al. 2017, "On calibration of modern neural networks",
    equations 2 to 5). `confidence` is that of the bins' Wilson intervals. Brier 1950 for the squared error.
    """
    if num_bins < 1:
        raise InputError(f"num_bins must be at least 1, not {num_bins}.")
    checked = _checked(margins, "margin")
    sure, right = special.expit(np.abs(checked)), _points(checked)
    places = np.minimum(((sure - 0.5) * 2 * num_bins).astype(np.int64), num_bins - 1)
    edges = 0.5 + np.arange(num_bins + 1) / (2 * num_bins)
    bins, error = [], 0.0
    for place in range(num_bins):
        here = places == place
        number, low, high = int(here.sum()), float(edges[place]), float(edges[place + 1])
        if not number:
            bins.append(Bin(low, high, 0, None, None))
            continue
        mean, accuracy = float(sure[here].mean()), wilson(float(right[here].mean()), number, confidence)
        bins.append(Bin(low, high, number, mean, accuracy))
        error += number / len(checked) * abs(accuracy.estimate - mean)
    return Calibration(
        expected_error=error,
        log_loss=float(np.logaddexp(0.0, -checked).mean()),  # over pairs
        brier=float((special.expit(-checked) ** 2).mean()),
        bins=tuple(bins),
    )


def length_accuracy(
    chosen_lengths: Scores,
    rejected_lengths: Scores,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> ClusteredProportion:
    """How often the longer one is the chosen one, equal lengths half: what any judge of these pairs has to beat."""
    chosen, rejected = _checked(chosen_lengths, "chosen length"), _checked(rejected_lengths, "rejected length")
    if len(chosen) != len(rejected):
        raise InputError(f"Every pair needs two lengths: there are {len(chosen)} and {len(rejected)}.")
    return clustered_proportion(_points(chosen - rejected), clusters, confidence)


def _points(differences: FloatArray) -> FloatArray:
    """1 where the difference is above 0, 1/2 at 0, else 0."""
    return (1 + np.sign(differences)) / 2


def _checked(values: Scores, name: str) -> FloatArray:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not found.size:
        raise InputError(f"There is no {name}: a judge cannot be measured without pairs.")
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found))[0])
        raise InputError(f"Pair {row} has the {name} {found[row]}, which is not a finite number.")
    return found
