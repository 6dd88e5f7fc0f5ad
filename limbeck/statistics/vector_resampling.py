"""The bootstrap of sums of vectors: for statistics that are no mean, but a function of several sums over prompts.

Prompts with equal vectors are one *kind*. A resample is a multinomial draw of how often each kind comes, or, of more
than 256 kinds, a draw of prompts: both are the ordinary bootstrap, exactly. Where there are more than 256 kinds and
more than 2,048 prompts, the sums are drawn from the normal distribution that has their mean and covariance: by the
central limit theorem that is what they tend to, and it costs the same for any number of prompts.

Refuses to know what the sums are for.
"""

import numpy as np
import numpy.typing as npt

from limbeck.seeds import derive
from limbeck.statistics.resampling import FloatArray, IntArray

_MAX_KINDS = 256  # 10,000 multinomial draws of 256 kinds take about 0.2 s on a laptop
_MAX_PROMPTS = 2048  # 10,000 draws of 2,048 prompts take about 0.2 s
_MAX_CELLS = 2_000_000  # counts held at once: 16 MB
_MAX_CODE = 2**62
_ROWS_AT_ONCE = 2048  # of a covariance: they stay in the processor's cache


def first_seen(codes: IntArray) -> IntArray:
    """Number the codes 0, 1, 2, ... in order of first appearance, so that renaming them changes no draw."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    ranks = np.empty(len(first), dtype=np.int64)
    ranks[np.argsort(first)] = np.arange(len(first))
    return ranks[inverse]


def codes_of_rows(rows: npt.NDArray[np.int8]) -> IntArray:
    """Number the distinct rows of a table, [prompts, columns], in order of first appearance; shape (prompts,)."""
    digits = rows.astype(np.int64) - int(rows.min())
    base = int(digits.max()) + 1
    codes, size = np.zeros(len(rows), dtype=np.int64), 1
    for column in digits.T:
        if size > _MAX_CODE // base:  # the number would be too long: shorten it to that of the distinct ones
            codes = first_seen(codes)
            size = int(codes.max()) + 1
        codes, size = codes * base + column, size * base
    return first_seen(codes)


def bootstrap_sums(
    codes: IntArray, vectors: FloatArray, strata: IntArray | None, *, seed: int, resamples: int
) -> FloatArray:
    """Resample prompts with replacement and return the sum of their vectors, [resamples, columns].

    `codes`, shape (prompts,), says which row of `vectors`, [kinds, columns], each prompt has. With `strata` the number
    of prompts in each stratum is held fixed (Davison and Hinkley 1997, section 3.2).
    """
    generator = np.random.default_rng(derive(seed, "bootstrap of sums"))
    total = np.zeros((resamples, vectors.shape[1]))
    for stratum in range(1 if strata is None else int(strata.max()) + 1):
        here = codes if strata is None else codes[strata == stratum]
        _, first = np.unique(here, return_index=True)
        kinds = here[np.sort(first)]  # of this stratum, in order of first appearance
        places = first_seen(here)
        if len(kinds) > _MAX_KINDS and len(here) > _MAX_PROMPTS:
            total += _normal_sums(here, vectors, resamples, generator)
            continue
        chunk = max(1, _MAX_CELLS // min(len(here), max(len(kinds), _MAX_KINDS)))
        for start in range(0, resamples, chunk):
            stop = min(start + chunk, resamples)
            total[start:stop] += _draw(places, len(kinds), stop - start, generator) @ vectors[kinds]
    return total


def _draw(places: IntArray, num_kinds: int, num_draws: int, generator: np.random.Generator) -> FloatArray:
    """How often each kind comes in a resample of as many prompts as there are: [num_draws, num_kinds]."""
    num_prompts = len(places)
    if num_kinds <= _MAX_KINDS:
        shares = np.bincount(places, minlength=num_kinds) / num_prompts
        return generator.multinomial(num_prompts, shares, size=num_draws).astype(np.float64)
    drawn = places[generator.integers(0, num_prompts, size=(num_draws, num_prompts))]
    drawn += np.arange(num_draws)[:, None] * num_kinds  # each resample counts in cells of its own
    counted = np.bincount(drawn.reshape(-1), minlength=num_draws * num_kinds)
    return counted.reshape(num_draws, num_kinds).astype(np.float64)


def _normal_sums(codes: IntArray, vectors: FloatArray, num_draws: int, generator: np.random.Generator) -> FloatArray:
    """Normal variables with the mean and covariance of a resample's sums, [num_draws, columns]."""
    times = np.bincount(codes, minlength=len(vectors)).astype(np.float64)  # how many prompts are of each kind
    total = times @ vectors
    spread = np.zeros((len(total), len(total)))
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        rows, weights = vectors[start : start + _ROWS_AT_ONCE], times[start : start + _ROWS_AT_ONCE, None]
        centred = rows - total / len(codes)
        spread += (weights * centred).T @ centred
    scales, directions = np.linalg.eigh(spread)
    root = directions * np.sqrt(np.maximum(scales, 0.0))  # rounding may leave a scale a little below 0
    return np.asarray(total + generator.standard_normal((num_draws, len(total))) @ root.T)
