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


def first_step(sides: tuple[Sequence[int], Sequence[int]], ends_line: Callable[[int], bool]) -> tuple[Part, Part]:
    """The part of (chosen, rejected) from the first token that differs to the end of its line. Of equal sides: all.

    The end of a line belongs to it; where none follows, the line ends with the response. Where the sides differ only in
    how they end a line, the next line belongs to the part too.
    """
    chosen, rejected = sides
    both = min(len(chosen), len(rejected))
    apart = next((at for at in range(both) if chosen[at] != rejected[at]), None)
    if apart is None:
        return Part(0, len(chosen)), Part(0, len(rejected))
    search = apart + (ends_line(chosen[apart]) and ends_line(rejected[apart]))
    return Part(apart, _line_end(chosen, search, ends_line)), Part(apart, _line_end(rejected, search, ends_line))


def _line_end(ids: Sequence[int], start: int, ends_line: Callable[[int], bool]) -> int:
    return next((at + 1 for at in range(start, len(ids)) if ends_line(ids[at])), len(ids))
