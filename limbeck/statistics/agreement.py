"""Whether judges agree: two judges with each other, and a judge that compares two responses with itself when they are
shown in the other order.

Refuses to know which of them is right.
"""

import math
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from limbeck.errors import InputError
from limbeck.statistics.intervals import ClusteredProportion, Interval, clustered_proportion, proportion
from limbeck.statistics.outcomes import take_labels
from limbeck.statistics.resampling import FloatArray, IntArray, check_fraction, check_resamples, codes_of
from limbeck.statistics.vector_resampling import bootstrap_sums

Outcome = Literal["win", "tie", "loss"]
Position = Literal["first", "second", "tie"]
_OUTCOMES: tuple[Outcome, ...] = ("win", "tie", "loss")


class Agreement(NamedTuple):
    """`raw`: share of rows with the same outcome. `kappa`: that, with agreement by chance taken out; None where both
    judges give one and the same outcome to all rows. `counts[i][j]`: rows that are win, tie, loss (i) for the first
    judge and (j) for the second.
    """

    raw: ClusteredProportion
    kappa: float | None
    kappa_low: float | None
    kappa_high: float | None
    counts: tuple[tuple[int, ...], ...]
    unscored: int


class OrderEffects(NamedTuple):
    """Of pairs that were judged in both orders: `flips`, where the two answers differ (so the pair is a tie), and
    `reversals`, where they name different winners. `first`: how often the response shown first was named, of all
    answers that named one, 1/2 where order does not matter; None where none did. `unscored`: pairs left out.
    """

    flips: Interval
    reversals: Interval
    first: ClusteredProportion | None
    unscored: int


def judge_agreement(
    first: Sequence[Outcome | None],
    second: Sequence[Outcome | None],
    *,
    seed: int,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Agreement:
    """Compare the outcomes that two judges give the same rows; None is unscored and leaves the row out.

    Raw agreement has Wilson's interval (clustered where prompts have several rows). Kappa is (agreement - chance) /
    (1 - chance), chance from each judge's own shares (Cohen 1960, Educational and Psychological Measurement 20), with a
    percentile bootstrap over prompts; resamples without a kappa are left out of it.

    Raises:
        InputError: the lists differ in length, no row has both outcomes, or an outcome is not win, tie or loss.
    """
    check_fraction("confidence", confidence)
    check_resamples(resamples)
    if len(first) != len(second):
        raise InputError(f"Both judges must judge the same rows: there are {len(first)} and {len(second)}.")
    _check_known({*first, *second}, _OUTCOMES)
    rows = [row for row, pair in enumerate(zip(first, second, strict=True)) if None not in pair]
    if not rows:
        raise InputError(f"None of {len(first)} rows is judged by both: there is no agreement to give.")
    places = {outcome: place for place, outcome in enumerate(_OUTCOMES)} | {None: -1}
    cells = np.array([3 * places[first[row]] + places[second[row]] for row in rows], dtype=np.int64)
    labels = take_labels(clusters, np.array(rows), len(first), "clusters")
    table = np.bincount(cells, minlength=9)
    kappa = float(kappas(table[None])[0])
    refits = _resampled_kappas(cells, codes_of(labels, len(rows), "clusters"), seed=seed, resamples=resamples)
    bounds = _bounds(refits, confidence)
    return Agreement(
        raw=clustered_proportion(cells // 3 == cells % 3, labels, confidence),
        kappa=None if math.isnan(kappa) else kappa,
        kappa_low=bounds.low,
        kappa_high=bounds.high,
        counts=tuple(tuple(int(n) for n in line) for line in table.reshape(3, 3)),
        unscored=len(first) - len(rows),
    )


def _resampled_kappas(cells: IntArray, prompts: IntArray | None, *, seed: int, resamples: int) -> FloatArray:
    """The kappa of each resample of prompts, shape (resamples,); `cells` says where in the table each row lies."""
    codes, vectors = cells, np.eye(9)
    if prompts is not None:
        codes = np.arange(int(prompts.max()) + 1)
        counted = np.bincount(prompts * 9 + cells, minlength=9 * len(codes))
        vectors = counted.reshape(len(codes), 9).astype(np.float64)
    sums = bootstrap_sums(codes, vectors, None, seed=seed, resamples=resamples)
    return kappas(np.maximum(sums, 0.0))  # sums drawn from a normal distribution may fall a little below 0


def kappas(tables: FloatArray | IntArray) -> FloatArray:
    """Cohen's kappa of each 3 x 3 table of counts, [tables, 9]; NaN where chance alone agrees always."""
    shares = (tables / tables.sum(axis=1, keepdims=True)).reshape(-1, 3, 3)
    agreed = shares[:, range(3), range(3)].sum(axis=1)
    chance = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    known = chance < 1 - 1e-12  # rounding
    return np.where(known, (agreed - chance) / np.where(known, 1 - chance, 1.0), np.nan)


def order_effects(
    shown_first: Sequence[Position | None], shown_second: Sequence[Position | None], confidence: float = 0.95
) -> OrderEffects:
    """Compare a pairwise judge's two answers on each pair: with a response shown first, and with it shown second.

    Each answer says which *position* won, so an answer that does not depend on order goes from "first" to "second" or
    stays "tie" (Zheng et al. 2023, "Judging LLM-as-a-judge with MT-Bench and Chatbot Arena", section 3.4). Wilson's
    intervals; the two answers on one pair count as its cluster in `first`.

    Raises:
        InputError: the lists differ in length, no pair has both answers, or an answer is not first, second or tie.
    """
    if len(shown_first) != len(shown_second):
        raise InputError(f"Both orders must be asked of the same pairs: {len(shown_first)} and {len(shown_second)}.")
    _check_known({*shown_first, *shown_second}, ("first", "second", "tie"))
    both = [(a, b) for a, b in zip(shown_first, shown_second, strict=True) if a is not None and b is not None]
    if not both:
        raise InputError(f"None of {len(shown_first)} pairs is judged in both orders: there is no flip rate to give.")
    found = Counter(both)
    reversals = found["first", "first"] + found["second", "second"]
    agreeing = found["first", "second"] + found["second", "first"] + found["tie", "tie"]
    named = [(pair, answer == "first") for pair, two in enumerate(both) for answer in two if answer != "tie"]
    first = clustered_proportion([f for _, f in named], [p for p, _ in named], confidence) if named else None
    return OrderEffects(
        flips=proportion(len(both) - agreeing, len(both), confidence),
        reversals=proportion(reversals, len(both), confidence),
        first=first,
        unscored=len(shown_first) - len(both),
    )


class _Bounds(NamedTuple):
    low: float | None
    high: float | None


def _bounds(values: FloatArray, confidence: float) -> _Bounds:
    known = values[~np.isnan(values)]
    if not known.size:
        return _Bounds(None, None)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return _Bounds(float(low), float(high))


def _check_known(found: Collection[object], known: Sequence[str]) -> None:
    for label in sorted(str(label) for label in found if label is not None and label not in known):
        raise InputError(f"{label!r} is not an outcome; it must be one of {', '.join(known)}, or None if unscored.")
