"""Prompts in nearly the same words, found without comparing each with each: MinHash and banding. Pure.

Two prompts are near-duplicates where the Jaccard similarity of their word triples is at least the threshold, for
the whole conversation and for its last user turn: "go on" after other turns is another prompt, and so is another
question after the same ones. MinHash (Broder 1997) only proposes candidates; the similarity itself is then computed.
Start reading at: `NearDuplicates`.
"""

from collections.abc import Iterable
from typing import NamedTuple

from limbeck.likeness import jaccard
from limbeck.records import PromptRow
from limbeck.screening.words import figures, prompt_words

SHINGLE_WORDS = 3
_PERMUTATIONS = 128
_MISSED = 0.001  # of the pairs that lie exactly at the threshold, banding may miss this share; above it, fewer
_SEED = 1


class Fingerprint(NamedTuple):
    """What a prompt is compared by: word triples of all turns and of the last one, and its figures in order."""

    whole: frozenset[tuple[str, ...]]
    last: frozenset[tuple[str, ...]]
    figures: tuple[str, ...]


def fingerprint(row: PromptRow) -> Fingerprint:
    """Return what `row` is compared by. Case, white space and punctuation count for nothing, figures do."""
    words = [word for turn in row.prompt if turn.role != "system" for word in prompt_words(turn.content)]
    return Fingerprint(shingles(words), shingles(prompt_words(row.prompt[-1].content)), figures(words))


def shingles(words: list[str]) -> frozenset[tuple[str, ...]]:
    """All triples of neighbouring words; a shorter text is one shingle, so that it equals nothing but itself."""
    count = max(1, len(words) - SHINGLE_WORDS + 1)
    return frozenset(tuple(words[start : start + SHINGLE_WORDS]) for start in range(count))


class NearDuplicates:
    """An index of prompts that grows. `same_figures`: prompts whose numbers differ are different prompts."""

    def __init__(self, threshold: float, *, same_figures: bool) -> None:
        from datasketch import MinHash, MinHashLSH  # here, since importing it takes what a small command would notice

        rows = rows_a_band(threshold)
        self._threshold, self._same_figures = threshold, same_figures
        self._blank = MinHash(num_perm=_PERMUTATIONS, seed=_SEED, scheme="affine32")
        self._index = MinHashLSH(num_perm=_PERMUTATIONS, params=(_PERMUTATIONS // rows, rows))
        self._known: list[Fingerprint] = []

    def add(self, prompt: Fingerprint) -> None:
        """Remember a prompt."""
        self._index.insert(len(self._known), self._signature(prompt), check_duplication=False)
        self._known.append(prompt)

    def extend(self, prompts: Iterable[Fingerprint]) -> None:
        """Remember several."""
        for prompt in prompts:
            self.add(prompt)

    def found(self, prompt: Fingerprint) -> bool:
        """Whether a prompt that is remembered is a near-duplicate of this one."""
        if not self._known:
            return False
        places = self._index.query(self._signature(prompt))
        return any(self._near(prompt, self._known[place]) for place in places)

    def _near(self, prompt: Fingerprint, other: Fingerprint) -> bool:
        if self._same_figures and prompt.figures != other.figures:
            return False
        return (
            jaccard(prompt.whole, other.whole) >= self._threshold
            and jaccard(prompt.last, other.last) >= self._threshold
        )

    def _signature(self, prompt: Fingerprint) -> object:
        signature = self._blank.copy()
        signature.update_batch(" ".join(shingle).encode() for shingle in prompt.whole)
        return signature


def rows_a_band(threshold: float) -> int:
    """The most rows a band with which at most 0.1 % of the pairs at the threshold is missed.

    A pair of similarity s shares a band of r rows with probability s^r, so that all b bands miss it with
    (1 - s^r)^b (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4). More rows: fewer candidates in vain.
    """
    enough = [rows for rows in range(1, 33) if (1 - threshold**rows) ** (_PERMUTATIONS // rows) <= _MISSED]
    return max(enough, default=1)
