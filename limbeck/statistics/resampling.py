"""The bootstrap and the sign-flipping draws that intervals and tests are made of: arrays in, arrays out.

The cost does not grow with the number of prompts. Prompts that a resample cannot tell apart are one *kind*, and a
resample is a multinomial draw of how often each kind comes. Up to 128 distinct values this is the ordinary bootstrap,
exactly. Beyond that the values are put into 128 bins of equal width, and the sum of the draws from one bin is replaced
by a normal variable with the same mean and variance. What is neglected is the skewness inside the bins: it moves a
quantile of the resampled sum by less than one bin width (range / 64), while that sum's standard error is at least
range / sqrt(2), so by less than the Monte Carlo error of 10,000 resamples (2.7 % of a standard error).

Refuses to know what the values mean, and which model they came from.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from limbeck.errors import InputError
from limbeck.seeds import derive

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Scores = Sequence[float] | npt.NDArray[np.float64] | npt.NDArray[np.int64] | npt.NDArray[np.bool_]

MAX_KINDS = 128  # 10,000 resamples of 128 kinds take about 0.15 s on a laptop; the module's text bounds the error
_MAX_CELLS = 2_000_000  # resamples x kinds held at once: 16 MB of counts


class Kinds(NamedTuple):
    """Values grouped into kinds, all arrays of shape (num_kinds,), in order of first appearance."""

    counts: IntArray
    means: FloatArray
    variances: FloatArray  # within the kind; 0 where its values are equal
    sizes: FloatArray  # rows a prompt of this kind has


class Paired(NamedTuple):
    """The scores of two models on the same rows, checked: equal lengths, at least one row, all finite."""

    a: FloatArray
    b: FloatArray


def checked_pair(a: Scores, b: Scores) -> Paired:
    """Return both as float arrays of shape (rows,), or say what is wrong with them."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 1 or second.ndim != 1:
        raise InputError("Paired scores must be two flat lists, one number a row.")
    if first.size != second.size:
        raise InputError(f"Paired scores must come from the same rows: there are {first.size} and {second.size}.")
    if first.size == 0:
        raise InputError("There are no scored rows to compare: no data is not a result of 0.")
    for name, values in (("first", first), ("second", second)):
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise InputError(
                f"Row {row} of the {name} scores is not a finite number; leave unscored rows out and count them."
            )
    return Paired(first, second)


def check_fraction(name: str, value: float) -> None:
    """Refuse anything that is not strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise InputError(f"{name} must lie strictly between 0 and 1, not {value}.")


def check_resamples(resamples: int) -> None:
    """Refuse a number of resamples that could not give a quantile."""
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, not {resamples}.")


def codes_of(labels: Sequence[Hashable] | None, num_rows: int, name: str) -> IntArray | None:
    """Number the labels 0, 1, 2, ... in order of first appearance; None stays None."""
    if labels is None:
        return None
    if len(labels) != num_rows:
        raise InputError(f"{name} must have one label a row: {len(labels)} labels for {num_rows} rows.")
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(label, len(numbers)) for label in labels), dtype=np.int64, count=num_rows)


def strata_of_prompts(prompts: IntArray, strata: IntArray | None) -> IntArray | None:
    """The stratum of each prompt, shape (prompts,), from that of each row; `prompts` are codes from `codes_of`."""
    if strata is None:
        return None
    _, first = np.unique(prompts, return_index=True)
    if (strata[first][prompts] != strata).any():
        raise InputError("The rows of one prompt must lie in one stratum.")
    return strata[first]


def kinds_of(values: FloatArray, sizes: FloatArray | None = None) -> Kinds:
    """Group prompts by value, or by bin where there are more than `MAX_KINDS` distinct values, and by size.

    The order is that of first appearance, which negating every value does not change: with the same seed, swapping two
    models then mirrors every resample, exactly.
    """
    _, codes = np.unique(values, return_inverse=True)
    if codes.max() >= MAX_KINDS:
        centred = values - values.mean()
        width = 2.0 * np.abs(centred).max() / MAX_KINDS
        _, codes = np.unique(np.rint(centred / width), return_inverse=True)
    if sizes is not None:
        codes = codes * (int(sizes.max()) + 1) + sizes.astype(np.int64)
    _, first, codes, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    means = np.bincount(codes, weights=values) / counts  # over the prompts of the kind
    variances = np.bincount(codes, weights=(values - means[codes]) ** 2) / counts
    kind_sizes = np.ones(len(counts)) if sizes is None else sizes[first]
    return Kinds(counts[order], means[order], variances[order], kind_sizes[order])


def bootstrap_means(
    sums: FloatArray, sizes: FloatArray, strata: IntArray | None, *, seed: int, resamples: int
) -> FloatArray:
    """Resample prompts with replacement and return the mean over rows of each resample, shape (resamples,).

    `sums` and `sizes`, shape (prompts,), are each prompt's sum over its rows and its number of rows. With `strata` the
    number of prompts in each stratum is held fixed (Davison and Hinkley 1997, section 3.2).
    """
    generator = np.random.default_rng(derive(seed, "bootstrap"))
    total, rows = np.zeros(resamples), np.zeros(resamples)
    for stratum in range(1 if strata is None else int(strata.max()) + 1):
        here = slice(None) if strata is None else strata == stratum
        kinds = kinds_of(sums[here], sizes[here])
        chunk = max(1, _MAX_CELLS // len(kinds.counts))
        for start in range(0, resamples, chunk):
            stop = min(start + chunk, resamples)
            drawn = _draw_kinds(kinds, stop - start, generator)
            total[start:stop] += _sums_of_draws(drawn, kinds, generator)
            rows[start:stop] += drawn @ kinds.sizes
    return total / rows


def flipped_sums(magnitudes: FloatArray, *, seed: int, resamples: int) -> FloatArray:
    """Give each magnitude a random sign and return the sum, `resamples` times, shape (resamples,)."""
    generator = np.random.default_rng(derive(seed, "permutation"))
    kinds = kinds_of(magnitudes)
    total = np.zeros(resamples)
    chunk = max(1, _MAX_CELLS // len(kinds.counts))
    # Within a kind the deviations from its mean are flipped too: they add their whole sum of squares as variance.
    residual_sd = np.sqrt((kinds.counts * kinds.variances).sum())
    for start in range(0, resamples, chunk):
        stop = min(start + chunk, resamples)
        positive = generator.binomial(kinds.counts, 0.5, size=(stop - start, len(kinds.counts)))
        total[start:stop] = (2 * positive - kinds.counts) @ kinds.means  # sum over kinds
    total += residual_sd * generator.standard_normal(resamples)
    return total


def _draw_kinds(kinds: Kinds, num_draws: int, generator: np.random.Generator) -> FloatArray:
    """How often each kind comes in a resample of as many prompts as there are: shape (num_draws, num_kinds)."""
    num_prompts = int(kinds.counts.sum())
    drawn = generator.multinomial(num_prompts, kinds.counts / num_prompts, size=num_draws)
    return drawn.astype(np.float64)  # so that the products below are BLAS products


def _sums_of_draws(drawn: FloatArray, kinds: Kinds, generator: np.random.Generator) -> FloatArray:
    """The sum over the drawn prompts, shape (num_draws,)."""
    sums = drawn @ kinds.means
    if kinds.variances.any():
        sums += np.sqrt(drawn @ kinds.variances) * generator.standard_normal(len(sums))
    return np.asarray(sums)
