"""Tests of "no difference" for two models on the same prompts, and the correction for several of them.

All are two-sided. Rows must be independent; where a prompt has several (samples, seeds), name each row's prompt in
`clusters`, and what is flipped or counted is the prompt's sum. Under the null hypothesis the two models' rows of one
prompt may be exchanged all at once, however alike they are, so these tests stay exact. To test a win rate whose prompts
have several rows, give `paired_permutation` zeros and the outcomes 1, 0, -1.

Refuses to know what a score means and to call anything significant: it returns probabilities.
"""

from collections.abc import Hashable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy import special

from limbeck.errors import InputError
from limbeck.statistics.resampling import (
    FloatArray,
    Scores,
    check_resamples,
    checked_pair,
    codes_of,
    flipped_sums,
)

_RELATIVE_TOLERANCE = 1e-9  # sums that differ by less are equal: the order of the additions is not evidence


class McNemar(NamedTuple):
    """Prompts that only one of the two models solved, and the probability of a split at least as uneven."""

    p_value: float
    only_a: int
    only_b: int


class SignTest(NamedTuple):
    """Prompts on which b is higher, lower or equal, and the probability of a split at least as uneven."""

    p_value: float
    higher: int
    lower: int
    equal: int


def mcnemar_exact(a: Scores, b: Scores, clusters: Sequence[Hashable] | None = None) -> McNemar:
    """Exact binomial form of McNemar's test for 0/1 outcomes (McNemar 1947; exact by Mosteller 1952).

    It counts rows, so it refuses prompts with several: `paired_permutation` with `clusters` is the test for those.
    """
    pair = checked_pair(a, b)
    codes = codes_of(clusters, len(pair.a), "clusters")
    if codes is not None and int(codes.max()) + 1 < len(codes):
        raise InputError(
            f"McNemar's test counts rows as independent, and {len(codes)} rows belong to {int(codes.max()) + 1} "
            "prompts; use paired_permutation with clusters."
        )
    if not np.isin(np.concatenate(pair), (0.0, 1.0)).all():
        raise InputError("McNemar's test is for outcomes of 0 or 1; use sign_test or paired_permutation for scores.")
    only_a, only_b = int((pair.a > pair.b).sum()), int((pair.b > pair.a).sum())
    return McNemar(_even_split_p(only_a, only_b), only_a, only_b)


def sign_test(a: Scores, b: Scores, clusters: Sequence[Hashable] | None = None) -> SignTest:
    """Exact sign test (Arbuthnot 1710; Dixon and Mood 1946): equal pairs are left out and counted.

    With `clusters`, what is counted is prompts, by the sign of the sum of b - a over their rows.
    """
    pair = checked_pair(a, b)
    sums = _prompt_sums(pair.b - pair.a, clusters)
    higher, lower = int((sums > 0).sum()), int((sums < 0).sum())
    return SignTest(_even_split_p(higher, lower), higher, lower, len(sums) - higher - lower)


def paired_permutation(
    a: Scores,
    b: Scores,
    *,
    seed: int,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
) -> float:
    """P-value of mean(b - a) when the sign of every prompt's difference is arbitrary (Fisher 1935, section 21).

    Exact where all sign patterns of the non-zero differences are no more than `resamples`. Otherwise
    (1 + as extreme) / (1 + resamples), which is never 0 (Phipson and Smyth 2010).
    """
    check_resamples(resamples)
    pair = checked_pair(a, b)
    differences = _prompt_sums(pair.b - pair.a, clusters)
    differences = differences[differences != 0]
    if 2.0 ** min(len(differences), 1000) <= resamples:
        sums = _all_flipped_sums(differences)
        return float(_as_extreme(sums, differences).mean())
    sums = flipped_sums(np.abs(differences), seed=seed, resamples=resamples)
    return float((1 + _as_extreme(sums, differences).sum()) / (1 + resamples))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p-values for their number, in the order given (Holm 1979): the family-wise error rate is kept.

    The i-th smallest of m is multiplied by m - i + 1; a larger one is never adjusted to less than a smaller one.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError("Every p-value must lie between 0 and 1.")
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)  # m, m - 1, ..., 1
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return tuple(float(value) for value in adjusted)


def _prompt_sums(differences: FloatArray, clusters: Sequence[Hashable] | None) -> FloatArray:
    """The sum over the rows of each prompt, shape (prompts,); what is left of a sum by rounding alone is 0."""
    codes = codes_of(clusters, len(differences), "clusters")
    if codes is None:
        return differences
    sums = np.bincount(codes, weights=differences).astype(np.float64)
    sums[np.abs(sums) <= _RELATIVE_TOLERANCE * np.bincount(codes, weights=np.abs(differences))] = 0.0
    return sums


def _even_split_p(one: int, other: int) -> float:
    """Two-sided P of a split this uneven or more under a fair coin; 1 where nothing was split."""
    if one + other == 0:
        return 1.0
    return min(1.0, 2.0 * float(special.bdtr(min(one, other), one + other, 0.5)))


def _all_flipped_sums(differences: FloatArray) -> FloatArray:
    """Every one of the 2^n sums, shape (2^n,)."""
    signs = np.array(list(product((-1.0, 1.0), repeat=len(differences))))  # (2^n, n)
    return np.asarray(signs @ differences)


def _as_extreme(sums: FloatArray, differences: FloatArray) -> FloatArray:
    """1 where a flipped sum is at least as far from 0 as the observed one, else 0."""
    tolerance = _RELATIVE_TOLERANCE * float(np.abs(differences).sum())
    return (np.abs(sums) >= abs(float(differences.sum())) - tolerance).astype(np.float64)
