"""Which tokens of a pair the preference loss is about: all, or the first step in which the sides differ.

A wrong reply goes on consistently from its mistake ("= 128", then "#### 128"). Loss on whole responses unlearns that
too, which is no mistake. Lai et al. 2024, "Step-DPO: Step-wise Preference Optimization for Long-chain Reasoning of
LLMs", compare single steps for the same reason; here they are found by the text, a line a step, and nothing need be
sampled anew.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """Tokens of a response from `start` up to, without, `end`."""

    start: int
    end: int


def first_step(sides: tuple[Sequence[int], Sequence[int]], text: Callable[[int], str]) -> tuple[Part, Part]:
    """The part of (chosen, rejected) from the first token that differs to the end of its line. Of equal sides: all.

    `text`: a token's. The end of a line belongs to it; where none follows, the line ends with the response. Where the
    sides differ only in how they end a line, the next line belongs to the part too.
    """
    chosen, rejected = sides
    both = min(len(chosen), len(rejected))
    apart = next((at for at in range(both) if chosen[at] != rejected[at]), None)
    if apart is None:
        return Part(0, len(chosen)), Part(0, len(rejected))
    differ_in_line_end = all(_is_line_end(text(side[apart])) for side in sides)
    search = apart + 1 if differ_in_line_end else apart
    return Part(apart, _line_end(chosen, search, text)), Part(apart, _line_end(rejected, search, text))


def _is_line_end(text: str) -> bool:
    return "\n" in text and not text.strip()


def _line_end(ids: Sequence[int], start: int, text: Callable[[int], str]) -> int:
    return next((at + 1 for at in range(start, len(ids)) if "\n" in text(ids[at])), len(ids))
