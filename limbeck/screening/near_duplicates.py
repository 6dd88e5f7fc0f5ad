"""Prompts in nearly the same words, found without comparing each with each: MinHash and banding. Pure.

Two prompts are near-duplicates where the Jaccard similarity of their word triples is at least the threshold, for
the whole conversation and for its last user turn: "go on" after other turns is another prompt, and so is another
question after the same ones. Where all words are the same, or there are none, signs that are exchanged for others
decide. MinHash (Broder 1997) only proposes candidates; the similarity itself is then computed.
Start reading at: `NearDuplicates`.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from limbeck.likeness import jaccard
from limbeck.records import PromptRow
from limbeck.screening.words import figures, names, prompt_words, signs, tokens

SHINGLE_WORDS = 3
SHORT_WORDS = 20  # up to so many, an exchanged name makes another question; longer ones tell the same with other people
_PERMUTATIONS = 128
_MISSED = 0.001  # of the pairs that lie exactly at the threshold, banding may miss this share; above it, fewer
_SEED = 1


class Fingerprint(NamedTuple):
    """What a prompt is compared by: word triples of all turns and of the last one, and its figures in order.

    `signs`: what else it says, by runs of signs in order. `names`: those in it, of a short prompt only.
    """

    whole: frozenset[tuple[str, ...]]
    last: frozenset[tuple[str, ...]]
    figures: tuple[str, ...]
    signs: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()


def fingerprint(row: PromptRow) -> Fingerprint:
    """Return what `row` is compared by. Case, white space and punctuation count for nothing, figures do."""
    turns = [turn.content for turn in row.prompt if turn.role != "system"]
    words = [word for turn in turns for word in prompt_words(turn)]
    return Fingerprint(
        shingles(words),
        shingles(prompt_words(turns[-1])),
        figures(words),
        tuple(sign for turn in turns for sign in signs(turn)),
        frozenset[str]().union(*(names(tokens(turn)) for turn in turns)) if len(words) <= SHORT_WORDS else frozenset(),
    )


def shingles(words: list[str]) -> frozenset[tuple[str, ...]]:
    """All triples of neighbouring words; a shorter text is one shingle, so that it equals nothing but itself.

    A text without words has none: it equals what has the same signs.
    """
    if not words:
        return frozenset()
    count = max(1, len(words) - SHINGLE_WORDS + 1)
    return frozenset(tuple(words[start : start + SHINGLE_WORDS]) for start in range(count))


class NearDuplicates:
    """An index of prompts that grows. `same_figures`: prompts whose numbers differ are different prompts.

    So are short ones that exchange a name for another: "the capital of France" for "the capital of Spain".
    """

    def __init__(self, threshold: float, *, same_figures: bool) -> None:
        from datasketch import MinHash, MinHashLSH  # here, since importing it takes what a small command would notice

        rows = rows_a_band(threshold)
        self._threshold, self._same_figures = threshold, same_figures
        self._blank = MinHash(num_perm=_PERMUTATIONS, seed=_SEED, scheme="affine32")
        self._index = MinHashLSH(num_perm=_PERMUTATIONS, params=(_PERMUTATIONS // rows, rows))
        self._known: list[Fingerprint] = []
        self._wordless: dict[tuple[str, ...], list[int]] = {}  # numbers of prompts without a word, by their signs

    def add(self, prompt: Fingerprint) -> None:
        """Remember a prompt."""
        if prompt.whole:
            self._index.insert(len(self._known), self._signature(prompt), check_duplication=False)
        else:
            self._wordless.setdefault(prompt.signs, []).append(len(self._known))
        self._known.append(prompt)

    def extend(self, prompts: Iterable[Fingerprint]) -> None:
        """Remember several."""
        for prompt in prompts:
            self.add(prompt)

    def found(self, prompt: Fingerprint) -> bool:
        """Whether a prompt that is remembered is a near-duplicate of this one."""
        return next(self.near(prompt), None) is not None

    def near(self, prompt: Fingerprint) -> Iterator[int]:
        """The near-duplicates among what is remembered, by their number in the order that they were added in."""
        if not prompt.whole:
            places: Iterable[int] = self._wordless.get(prompt.signs, ())
        else:
            places = self._index.query(self._signature(prompt)) if self._known else ()
        return (place for place in places if self._near(prompt, self._known[place]))

    def _near(self, prompt: Fingerprint, other: Fingerprint) -> bool:
        if self._same_figures and (prompt.figures != other.figures or _names_exchanged(prompt, other)):
            return False
        # Where all words are the same, or the last turn has none, a sign exchanged for another is what differs.
        if prompt.whole == other.whole or not (prompt.last or other.last):
            ours, theirs = set(prompt.signs), set(other.signs)
            if ours - theirs and theirs - ours:
                return False
        return (
            jaccard(prompt.whole, other.whole) >= self._threshold
            and jaccard(prompt.last, other.last) >= self._threshold
        )

    def _signature(self, prompt: Fingerprint) -> object:
        signature = self._blank.copy()
        signature.update_batch(" ".join(shingle).encode() for shingle in prompt.whole)
        return signature


def _names_exchanged(prompt: Fingerprint, other: Fingerprint) -> bool:
    """Whether each has a name that the other does not say anywhere."""
    ours, theirs = ({word for shingle in one.whole for word in shingle} for one in (prompt, other))
    return bool(prompt.names - theirs) and bool(other.names - ours)


def rows_a_band(threshold: float) -> int:
    """The most rows a band with which at most 0.1 % of the pairs at the threshold is missed.

    A pair of similarity s shares a band of r rows with probability s^r, so that all b bands miss it with
    (1 - s^r)^b (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4). More rows: fewer candidates in vain.
    """
    enough = [rows for rows in range(1, 33) if (1 - threshold**rows) ** (_PERMUTATIONS // rows) <= _MISSED]
    return max(enough, default=1)
