"""Intervals: how far a measured share, or a measured difference of two models, can be trusted.

Intervals of comparisons resample prompts, not rows: several samples of one prompt are one piece of evidence. Refuses to
know how a score was made. No data is an error, never 0.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from limbeck.errors import InputError
from limbeck.statistics.resampling import (
    FloatArray,
    IntArray,
    Scores,
    bootstrap_means,
    check_fraction,
    check_resamples,
    checked_pair,
    codes_of,
)


class Interval(NamedTuple):
    """An estimate with its confidence interval; `n` is what the estimate is divided by."""

    estimate: float
    low: float
    high: float
    n: int


class PairedDifference(NamedTuple):
    """The mean over rows of `b - a` with its bootstrap interval; the resampled unit is the prompt."""

    estimate: float
    low: float
    high: float
    num_prompts: int
    num_rows: int


class _Prompts(NamedTuple):
    """Rows added up by prompt, all of shape (prompts,)."""

    sums: FloatArray
    sizes: FloatArray
    strata: IntArray | None


def proportion(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return a share of independent trials with Wilson's score interval (Wilson 1927, JASA 22, no continuity term).

    It keeps its nominal coverage for small `n` and near 0 and 1, where the textbook (Wald) interval collapses.
    """
    check_fraction("confidence", confidence)
    if n < 1:
        raise InputError("A share of no trials does not exist: n is 0 and must be at least 1.")
    if not 0 <= successes <= n:
        raise InputError(f"{successes} successes in {n} trials cannot be.")
    return wilson(successes / n, n, confidence)._replace(n=n)


def wilson(share: float, trials: float, confidence: float) -> Interval:
    """Wilson's score interval of a share; `trials` may be a fraction, where it says how many trials it is worth."""
    z = float(special.ndtri((1 + confidence) / 2))
    shrink = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # Where the share is 0 or 1 one end is the share itself; rounding must not move it past the share.
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), int(trials))


def paired_difference(
    a: Scores,
    b: Scores,
    *,
    seed: int,
    strata: Sequence[Hashable] | None = None,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> PairedDifference:
    """Compare two models on the same rows: mean(b - a) over rows, and a percentile bootstrap interval over prompts.

    `clusters` names each row's prompt where prompts have several rows; a resample takes or leaves a prompt with all its
    rows (Davison and Hinkley 1997, section 3.8). `strata` names each row's stratum; resampling then keeps the number of
    prompts in each. A prompt lies in one stratum.

    Percentile (Efron 1979; Efron and Tibshirani 1993, section 13.3), not BCa: the statistic is a mean, whose bias is 0;
    scores are mostly 0/1, where so many resamples equal the estimate that BCa's bias term is arbitrary, and where no
    row differs it does not exist; and swapping the models mirrors a percentile interval exactly (up to 128 distinct
    sums a stratum; within Monte Carlo error beyond). Its coverage is nominal from about 50 prompts and somewhat low
    below that. Where every row differs by the same amount the interval has no width: that is what the bootstrap can
    say, not a certainty.
    """
    check_fraction("confidence", confidence)
    check_resamples(resamples)
    pair = checked_pair(a, b)
    rows = pair.b - pair.a
    prompts = _by_prompt(rows, codes_of(clusters, len(rows), "clusters"), codes_of(strata, len(rows), "strata"))
    means = bootstrap_means(*prompts, seed=seed, resamples=resamples)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return PairedDifference(float(rows.mean()), float(low), float(high), len(prompts.sums), len(rows))


def _by_prompt(rows: FloatArray, clusters: IntArray | None, strata: IntArray | None) -> _Prompts:
    """Add up the rows of each prompt, in order of first appearance; without clusters every row is a prompt."""
    if clusters is None:
        return _Prompts(rows, np.ones(len(rows)), strata)
    _, first = np.unique(clusters, return_index=True)
    sums = np.bincount(clusters, weights=rows).astype(np.float64)
    sizes = np.bincount(clusters).astype(np.float64)
    if strata is None:
        return _Prompts(sums, sizes, None)
    if (strata[first][clusters] != strata).any():
        raise InputError("The rows of one prompt must lie in one stratum.")
    return _Prompts(sums, sizes, strata[first])
