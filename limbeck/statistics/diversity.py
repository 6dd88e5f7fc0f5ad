"""How repetitive one text is, and how varied many texts are, by n-grams.

Refuses to know about tokenizers: a string is split at white space and case is ignored; a list of token ids is taken as
it is.
"""

from collections.abc import Hashable, Sequence

from limbeck.errors import InputError

Text = str | Sequence[int]


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
    units: Sequence[Hashable] = text.casefold().split() if isinstance(text, str) else text
    return [tuple(units[start : start + n]) for start in range(len(units) - n + 1)]
