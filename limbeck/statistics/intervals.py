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
    strata_of_prompts,
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


class ClusteredProportion(NamedTuple):
    """A share over `num_rows` rows of `num_prompts` prompts; the rows are worth `effective_rows` independent ones."""

    estimate: float
    low: float
    high: float
    num_prompts: int
    num_rows: int
    effective_rows: float


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


def clustered_proportion(
    outcomes: Scores, clusters: Sequence[Hashable] | None = None, confidence: float = 0.95
) -> ClusteredProportion:
    """Return the mean over rows of outcomes between 0 and 1, with an interval that respects prompts with several rows.

    `clusters` names each row's prompt. Wilson's interval for as many independent rows as would be as uncertain: the
    number of rows divided by the design effect, at most the number of rows, with Student's quantiles for the number of
    prompts (Korn and Graubard 1998, Survey Methodology 24; with Wilson's interval: Franco et al. 2019, Journal of
    Survey Statistics and Methodology 7). One row a prompt gives `proportion`, exactly. Where all outcomes are 0, or
    all 1, there is nothing to take a design effect from: a prompt then counts as one row.

    Raises:
        InputError: there is no row, or an outcome is not between 0 and 1.
    """
    check_fraction("confidence", confidence)
    values = np.asarray(outcomes, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise InputError("A share of no trials does not exist: there must be at least one outcome, in a flat list.")
    if not ((values >= 0) & (values <= 1)).all():
        row = int(np.flatnonzero(~((values >= 0) & (values <= 1)))[0])
        raise InputError(f"Row {row} has the outcome {values[row]}, which is not between 0 and 1.")
    prompts = _by_prompt(values, codes_of(clusters, len(values), "clusters"), None)
    share = float(values.mean())
    rows = _effective_rows(prompts, share, confidence)
    found = wilson(share, rows, confidence)
    return ClusteredProportion(share, found.low, found.high, len(prompts.sums), len(values), rows)


def _effective_rows(prompts: _Prompts, share: float, confidence: float) -> float:
    """How many independent rows would be as uncertain: between 0 and the number of rows."""
    num_prompts, num_rows = len(prompts.sums), int(prompts.sizes.sum())
    if num_prompts == num_rows:
        return num_rows
    if num_prompts < 2 or share in (0.0, 1.0):
        return num_prompts
    variance = _mean_variance(prompts, share)
    if variance == 0.0:
        return num_rows
    quantile_of_rows, quantile_of_prompts = special.stdtrit([num_rows - 1, num_prompts - 1], (1 + confidence) / 2)
    alone = share * (1 - share) / (num_rows - 1)  # the variance if rows were independent
    return min(1.0, alone / variance * float(quantile_of_rows / quantile_of_prompts) ** 2) * num_rows


def sd_by_prompt(a: Scores, b: Scores, clusters: Sequence[Hashable] | None = None) -> float | None:
    """Return the sd to reckon power with: the standard error of mean(b - a) times the root of the number of prompts.

    With one row a prompt, the sample sd of b - a. `clusters` names each row's prompt. None of a single prompt.
    """
    pair = checked_pair(a, b)
    rows = pair.b - pair.a
    prompts = _by_prompt(rows, codes_of(clusters, len(rows), "clusters"), None)
    if len(prompts.sums) < 2:
        return None
    return math.sqrt(_mean_variance(prompts, float(rows.mean())) * len(prompts.sums))


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
    sums = np.bincount(clusters, weights=rows).astype(np.float64)
    sizes = np.bincount(clusters).astype(np.float64)
    return _Prompts(sums, sizes, strata_of_prompts(clusters, strata))


def _mean_variance(prompts: _Prompts, mean: float) -> float:
    """Variance of a mean over rows when prompts are drawn: that of the linearised ratio (Cochran 1977, section 6.3)."""
    num_prompts, num_rows = len(prompts.sums), float(prompts.sizes.sum())
    residuals = prompts.sums - mean * prompts.sizes
    return num_prompts / (num_prompts - 1) * float(residuals @ residuals) / num_rows**2
