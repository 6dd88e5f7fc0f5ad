"""Which words of two texts differ. Pure.

Words and signs are compared, white space is not (difflib's longest matching blocks, Ratcliff and Metzener 1988). Texts
with little in common are not marked at all: a page full of marks says nothing. Nor are those that take long to compare:
somebody waits.
"""

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

LEAST_IN_COMMON = 0.3  # share of words, of the shorter text, from which on marks help: by eye on real pairs
_MOST_WORDS = 4000  # a side; the time grows with the square: about a second here
_MOST_STEPS = 50_000_000  # about a second; English texts of 1,500 words need up to as many
_TOKEN = re.compile(r"\w+|[^\w\s]")


class Span(NamedTuple):
    """A stretch of a text, in characters; `stop` is not part of it."""

    start: int
    stop: int


class Marks(NamedTuple):
    """What to mark in each text; `alike` is False, and nothing marked, where little is shared or much to compare."""

    left: tuple[Span, ...]
    right: tuple[Span, ...]
    alike: bool


def differences(left: str, right: str) -> Marks:
    """Mark the words that one text has and the other has not, in order."""
    tokens = [list(_TOKEN.finditer(text)) for text in (left, right)]
    words = [[token[0] for token in found] for found in tokens]
    if max(map(len, words)) > _MOST_WORDS or _most_steps(*words) > _MOST_STEPS:
        return Marks((), (), alike=False)
    matcher = SequenceMatcher(None, words[0], words[1], autojunk=False)
    blocks = _without_islands([block for block in matcher.get_matching_blocks() if block.size], *map(len, words))
    shared = sum(size for _, _, size in blocks)
    if shared < LEAST_IN_COMMON * min(map(len, words)):
        return Marks((), (), alike=False)
    spans = [_between(found, [(block[side], block[2]) for block in blocks]) for side, found in enumerate(tokens)]
    return Marks(spans[0], spans[1], alike=True)


def _most_steps(left: Sequence[str], right: Sequence[str]) -> int:
    """What finding the blocks can cost: one search looks at every two equal words, and every word may need a search.

    So texts that repeat a word cost up to the cube of their length, and others about its square.
    """
    counts = Counter(right)
    return min(len(left), len(right)) * sum(number * counts[word] for word, number in Counter(left).items())


def _without_islands(blocks: Sequence[tuple[int, int, int]], *lengths: int) -> list[tuple[int, int, int]]:
    """Leave out a single shared word between two differences: it is shared by chance, and breaks what belongs together.

    One at the beginning or the end of either text has a difference on one side only, and stays.
    """
    ends = [(block[0] + block[2], block[1] + block[2]) for block in blocks]
    return [
        block
        for block, end in zip(blocks, ends, strict=True)
        if block[2] > 1 or 0 in block[:2] or any(stop == length for stop, length in zip(end, lengths, strict=True))
    ]


def _between(tokens: Sequence[re.Match[str]], shared: Sequence[tuple[int, int]]) -> tuple[Span, ...]:
    """The stretches of text outside the shared blocks of tokens."""
    spans, place = [], 0
    for start, size in [*shared, (len(tokens), 0)]:
        if start > place:
            spans.append(Span(tokens[place].start(), tokens[start - 1].end()))
        place = start + size
    return tuple(spans)
