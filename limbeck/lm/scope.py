"""Which tokens of a pair the preference loss is about: all, or those up to the first step in which the sides differ.

A wrong reply goes on consistently from its mistake ("= 128", then "#### 128"). Loss on whole responses unlearns that
too, which is no mistake; what both sides begin with cancels by itself. Lai et al. 2024, "Step-DPO: Step-wise Preference
Optimization for Long-chain Reasoning of LLMs", compare single steps for the same reason; here they are found by the
text, a line a step, and nothing need be sampled anew.
"""

from collections.abc import Callable, Sequence


def first_step(sides: tuple[Sequence[int], Sequence[int]], ends_line: Callable[[int], bool]) -> tuple[int, int]:
    """How many leading tokens of (chosen, rejected) reach the end of the line in which they first differ.

    The end of a line belongs to it; where none follows, the line ends with the response. Of equal sides all tokens.
    """
    chosen, rejected = sides
    both = min(len(chosen), len(rejected))
    apart = next((at for at in range(both) if chosen[at] != rejected[at]), both)
    return _line_end(chosen, apart, ends_line), _line_end(rejected, apart, ends_line)


def _line_end(ids: Sequence[int], start: int, ends_line: Callable[[int], bool]) -> int:
    return next((at + 1 for at in range(start, len(ids)) if ends_line(ids[at])), len(ids))
