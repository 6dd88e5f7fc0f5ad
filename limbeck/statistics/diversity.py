"""How repetitive one text is, and how varied many texts are: by n-grams, and by their likeness to each other.

Refuses to know about tokenizers: a string is split at white space and case is ignored; a list of words or token ids is
taken as it is.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from limbeck.errors import InputError
from limbeck.statistics.words import unit_rows

Text = str | Sequence[Hashable]
_UNMATCHED = 0.1  # in place of no match at all: method 1 of Chen and Cherry 2014, as Texygen's own code has it


def repetition_rate(text: Text, n: int = 4) -> float | None:
    """Return 1 - distinct / total n-grams of one text (seq-rep-n, Welleck et al. 2020); None if it has no n-gram."""
    grams = _ngrams(text, n)
    return 1 - len(set(grams)) / len(grams) if grams else None


def distinct_n(texts: Sequence[Text], n: int = 2) -> float:
    """Return distinct / total n-grams over all texts together (Li et al. 2016, who divide by tokens: here at most 1).

    It falls as there is more text: compare sets of about the same size only.
    """
    grams = [gram for text in texts for gram in _ngrams(text, n)]
    if not grams:
        raise InputError(f"None of {len(texts)} texts is as long as {n} words: there is nothing to count.")
    return len(set(grams)) / len(grams)


def _ngrams(text: Text, n: int) -> list[tuple[Hashable, ...]]:
    """Every run of n neighbouring words or token ids."""
    if n < 1:
        raise InputError(f"n must be at least 1, not {n}.")
    units = _units(text)
    return [tuple(units[start : start + n]) for start in range(len(units) - n + 1)]


def _units(text: Text) -> Sequence[Hashable]:
    return text.casefold().split() if isinstance(text, str) else text


def self_bleu(texts: Sequence[Text], n: int = 4) -> float:
    """Return the mean BLEU of every text with all the others as its references (Zhu et al. 2018, Texygen, section 4).

    0 to 1; high where texts are made of each other's phrases. BLEU is that of Papineni et al. 2002, equations 1 to 3,
    orders 1 to `n` with equal weights; a text shorter than `n` words is judged by the orders that it has, and a text
    without words is left out. It grows with the number of texts: compare sets of one size only. Takes time linear in
    the words: each n-gram's highest count and second highest are enough to know the highest among the *others*.

    Raises:
        InputError: fewer than two texts have words.
    """
    filled = [text for text in texts if len(_units(text))]
    if len(filled) < 2:
        raise InputError(f"{len(filled)} of {len(texts)} texts have words: there are no two to compare.")
    logs: list[list[float]] = [[] for _ in filled]
    unlike: set[int] = set()
    for order in range(1, n + 1):
        counted = [Counter(_ngrams(text, order)) for text in filled]
        peaks = _peaks(counted)
        for place, counts in enumerate(counted):
            matched = sum(min(number, peaks[gram].among_others(place)) for gram, number in counts.items())
            if order == 1 and not matched:
                unlike.add(place)
            if counts:
                logs[place].append(math.log((matched or _UNMATCHED) / counts.total()))
    lengths = [len(_units(text)) for text in filled]
    penalties = _brevity_penalties(lengths)
    scores = [0.0 if place in unlike else penalties[place] * math.exp(sum(log) / len(log))
              for place, log in enumerate(logs)]  # fmt: skip
    return sum(scores) / len(scores)  # over the texts that have words


class _Peak(NamedTuple):
    """The highest count of an n-gram in one text, which text has it, and the highest in any other text."""

    most: int
    owner: int
    second: int

    def among_others(self, place: int) -> int:
        """The highest count in a text other than `place`."""
        return self.second if place == self.owner else self.most


def _peaks(counted: Sequence[Counter[tuple[Hashable, ...]]]) -> dict[tuple[Hashable, ...], _Peak]:
    peaks: dict[tuple[Hashable, ...], _Peak] = {}
    for place, counts in enumerate(counted):
        for gram, number in counts.items():
            peak = peaks.get(gram)
            if peak is None:
                peaks[gram] = _Peak(number, place, 0)
            elif number > peak.most:
                peaks[gram] = _Peak(number, place, peak.most)
            elif number > peak.second:
                peaks[gram] = _Peak(peak.most, peak.owner, number)
    return peaks


def _brevity_penalties(lengths: Sequence[int]) -> list[float]:
    """exp(1 - r / c) where the closest other length r (the shorter of two as close) exceeds the text's own, c."""
    ordered = sorted(lengths)
    found = []
    for own in lengths:
        place = bisect_left(ordered, own)  # its own, or that of a text as long
        others = ordered[max(0, place - 1) : place] + ordered[place + 1 : place + 2]
        closest = min(others, key=lambda other: (abs(other - own), other))
        found.append(1.0 if own >= closest else math.exp(1 - closest / own))
    return found


def vendi_score(vectors: Any) -> float:
    """Return the effective number of different texts: exp of the entropy of the eigenvalues of K / n, where K holds the
    cosines of `vectors` (Friedman and Dieng 2023, definition 3.1).

    `vectors`: [texts, features], dense or sparse, embeddings or counts of n-grams. Between 1 (all alike) and n (none
    has anything in common with another). It grows with n: compare sets of one size only.

    Raises:
        InputError: there is no vector, or one is all zeros and thus has no cosine.
    """
    units = unit_rows(vectors)
    num_texts = units.shape[0]
    filled = abs(units).sum(axis=1) > 0
    if not num_texts or not np.all(filled):
        raise InputError("The Vendi score needs at least one text, and none without words.")
    small = units.T @ units if units.shape[1] < num_texts else units @ units.T  # both have the same eigenvalues
    kernel = small.toarray() if sparse.issparse(small) else np.asarray(small)
    shares = np.linalg.eigvalsh(kernel / num_texts)
    shares = shares[shares > 1e-12]  # rounding leaves tiny numbers, negative ones too, where there are zeros
    return float(np.exp(-(shares * np.log(shares)).sum()))
