"""Strengths of several models on one scale, from who beats whom on the same prompts.

P(i beats j) = sigmoid(strength i - strength j) (Bradley and Terry 1952). Every prompt compares every two arms that are
scored on it; a tie is half a win for each. These comparisons are not independent, since a prompt's scores take part in
many, so intervals resample prompts. Refuses to know which judge gave the scores.
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy.sparse import csgraph

from limbeck.errors import InputError
from limbeck.statistics.resampling import (
    FloatArray,
    IntArray,
    check_fraction,
    check_resamples,
    codes_of,
    strata_of_prompts,
)
from limbeck.statistics.vector_resampling import bootstrap_sums, codes_of_rows

# Every two arms get one more comparison, a tie: a prior that keeps strengths finite where an arm wins all (Davidson and
# Solomon 1973, "A Bayesian approach to paired comparison experimentation"). For two arms it gives the log-odds
# log((wins + 1/2) / (losses + 1/2)), which have next to no bias (Haldane 1956; Firth 1993, section 3).
_PSEUDO_WINS = 0.5
_MAX_STEPS = 1000  # a capped step always lowers the loss; ordinary data take some 6
_TOLERANCE = 1e-9  # of a step, in log-odds
_MISSING = 2  # in a table of signs: one of the two is not scored


class Strength(NamedTuple):
    """The log-odds of `arm` against the baseline, with its interval; `num_rows` rows compare it with any other arm."""

    arm: str
    log_odds: float
    low: float
    high: float
    num_rows: int


class BradleyTerry(NamedTuple):
    """Strengths in the order given, the baseline's all 0; prompts with no two scored arms are not in `num_prompts`."""

    baseline: str
    strengths: tuple[Strength, ...]
    num_prompts: int


def bradley_terry(
    scores: Mapping[str, Sequence[float | None]],
    *,
    baseline: str,
    seed: int,
    strata: Sequence[Hashable] | None = None,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> BradleyTerry:
    """Fit strengths to the scores of each arm on the same rows: higher wins, None is unscored and compares with none.

    The maximum likelihood estimate with one tie added between every two arms, by Newton's method; percentile bootstrap
    over prompts (see `paired_difference` for clusters and strata), every resample fitted anew.

    Raises:
        InputError: fewer than two arms, an arm without a scored row, arms that no chain of comparisons joins to the
            baseline, or scores that do not match.
    """
    check_fraction("confidence", confidence)
    check_resamples(resamples)
    arms = list(scores)
    if baseline not in scores or len(arms) < 2:
        raise InputError(f"Strengths need the baseline {baseline!r} and another arm; there are {', '.join(arms)}.")
    table = _table(scores)
    signs, kept = _signs(table)
    _check_joined(signs, arms, baseline)
    prompts = codes_of(_kept_labels(clusters, kept, "clusters"), len(signs), "clusters")
    groups = codes_of(_kept_labels(strata, kept, "strata"), len(signs), "strata")
    zero = arms.index(baseline)
    codes, vectors = _wins_of_prompts(signs, len(arms), prompts)
    groups = groups if prompts is None else strata_of_prompts(prompts, groups)
    whole = fit_strengths(vectors[codes].sum(axis=0).reshape(1, len(arms), len(arms)), zero)[0]
    sums = np.maximum(bootstrap_sums(codes, vectors, groups, seed=seed, resamples=resamples), 0.0)
    refits = fit_strengths(sums.reshape(resamples, len(arms), len(arms)), zero)
    lows, highs = np.quantile(refits, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    strengths = (
        Strength(arm, float(whole[at]), float(lows[at]), float(highs[at]), _num_rows(signs, at, len(arms)))
        for at, arm in enumerate(arms)
    )
    return BradleyTerry(baseline, tuple(strengths), len(codes))


def fit_strengths(wins: FloatArray, zero: int) -> FloatArray:
    """Strengths of many problems at once, [problems, arms]; that of arm `zero` is 0.

    `wins`: [problems, arms, arms], how often the first arm beat the second, ties half each. Newton's method on the
    log-likelihood, which is concave. A step is cut to where no two strengths move apart by more than 1, so each step
    raises it (Bach 2010, "Self-concordant analysis for logistic regression", proposition 1).
    """
    num_problems, num_arms = wins.shape[0], wins.shape[1]
    won = wins + _PSEUDO_WINS * (1 - np.eye(num_arms))
    games = won + won.transpose(0, 2, 1)
    free = np.delete(np.arange(num_arms), zero)
    strengths = np.zeros((num_problems, num_arms))
    active = np.arange(num_problems)
    for _ in range(_MAX_STEPS):
        if not active.size:
            return strengths
        now, played = strengths[active], games[active]
        odds = special.expit(now[:, :, None] - now[:, None, :])  # [active, arms, arms]
        slope = (won[active] - played * odds).sum(axis=2)  # over opponents
        weights = played * odds * (1 - odds)
        hessian = -weights
        hessian[:, np.arange(num_arms), np.arange(num_arms)] += weights.sum(axis=2)  # a game with itself weighs 0
        steps = np.zeros_like(now)
        steps[:, free] = np.linalg.solve(hessian[:, free[:, None], free], slope[:, free, None])[..., 0]
        moved = steps.max(axis=1) - steps.min(axis=1)
        strengths[active] += steps / np.maximum(1.0, moved)[:, None]
        active = active[moved > _TOLERANCE]
    raise ArithmeticError(f"{active.size} of {num_problems} Bradley-Terry fits did not settle in {_MAX_STEPS} steps.")


def _pairs(num_arms: int) -> list[tuple[int, int]]:
    return list(combinations(range(num_arms), 2))


def _table(scores: Mapping[str, Sequence[float | None]]) -> FloatArray:
    """Scores as [arms, rows], NaN where unscored."""
    sizes = sorted({len(column) for column in scores.values()})
    if len(sizes) > 1:
        raise InputError(f"All arms must be scored on the same rows: there are {' and '.join(map(str, sizes))}.")
    table = np.array([[np.nan if s is None else s for s in column] for column in scores.values()], dtype=np.float64)
    for arm, row, column in zip(scores, table, scores.values(), strict=True):
        unscored = np.fromiter((score is None for score in column), dtype=bool, count=len(column))
        if unscored.all():
            raise InputError(f"The arm {arm} has no scored row: it has no strength.")
        wrong = ~np.isfinite(row) & ~unscored
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"Row {at} of {arm} has the score {row[at]}, which is not finite; an unscored row is None."
            )
    return table


class _Signs(NamedTuple):
    """Who won in each kept row, [kept, pairs of arms]: 1 the first, -1 the second, 0 a tie, 2 not compared."""

    signs: npt.NDArray[np.int8]
    kept: npt.NDArray[np.bool_]


def _signs(table: FloatArray) -> _Signs:
    """Compare every two arms on every row; rows in which no two are scored are not kept."""
    first, second = (list(side) for side in zip(*_pairs(len(table)), strict=True))
    found = np.sign(table[first] - table[second])  # [pairs, rows]
    signs = np.where(np.isnan(found), _MISSING, found).astype(np.int8).T
    kept = (signs != _MISSING).any(axis=1)
    return _Signs(signs[kept], kept)


def _num_rows(signs: npt.NDArray[np.int8], arm: int, num_arms: int) -> int:
    """How many rows compare the arm with any other."""
    own = [place for place, pair in enumerate(_pairs(num_arms)) if arm in pair]
    return int((signs[:, own] != _MISSING).any(axis=1).sum())


def _kept_labels(
    labels: Sequence[Hashable] | None, kept: npt.NDArray[np.bool_], name: str
) -> Sequence[Hashable] | None:
    if labels is None:
        return None
    if len(labels) != len(kept):
        raise InputError(f"{name} must have one label a row: {len(labels)} labels for {len(kept)} rows.")
    return [label for label, is_kept in zip(labels, kept, strict=True) if is_kept]


def _check_joined(signs: npt.NDArray[np.int8], arms: Sequence[str], baseline: str) -> None:
    """Refuse arms that were never compared, however indirectly, with the baseline."""
    links = np.zeros((len(arms), len(arms)), dtype=np.int8)
    for pair, column in zip(_pairs(len(arms)), signs.T, strict=True):
        links[pair] = (column != _MISSING).any()
    _, groups = csgraph.connected_components(links, directed=False)
    apart = [arm for arm, group in zip(arms, groups, strict=True) if group != groups[list(arms).index(baseline)]]
    if apart:
        raise InputError(f"No row compares {', '.join(apart)} with {baseline}, not even through another arm.")


class _Wins(NamedTuple):
    """Each prompt's kind, shape (prompts,), and the wins of each kind, [kinds, arms x arms]."""

    codes: IntArray
    vectors: FloatArray


def _wins_of_prompts(signs: npt.NDArray[np.int8], num_arms: int, prompts: IntArray | None) -> _Wins:
    """Wins of the first arm over the second, ties half each, added up by prompt."""
    if prompts is None:
        codes = codes_of_rows(signs)
        _, first = np.unique(codes, return_index=True)
        return _Wins(codes, _wins(signs[first], num_arms, np.arange(len(first))))
    return _Wins(np.arange(int(prompts.max()) + 1), _wins(signs, num_arms, prompts))


def _wins(signs: npt.NDArray[np.int8], num_arms: int, places: IntArray) -> FloatArray:
    """Add up rows by place: [places, arms x arms]."""
    size = int(places.max()) + 1
    wins = np.zeros((size, num_arms, num_arms))
    for (i, j), column in zip(_pairs(num_arms), signs.T, strict=True):
        scored = column != _MISSING
        wins[:, i, j] = np.bincount(places[scored], weights=(1 + column[scored]) / 2, minlength=size)
        wins[:, j, i] = np.bincount(places[scored], weights=(1 - column[scored]) / 2, minlength=size)
    return wins.reshape(size, num_arms * num_arms)
