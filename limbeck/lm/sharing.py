"""Sequences that begin alike, laid out in one row so that what they share is computed once: a tree of spans.

Prompts of one system text, one template or one task begin alike; so do the two responses of a pair, and often a right
reply and a wrong one up to the mistake. Every token keeps its position and sees what it would see alone, so values and
gradients are those of single sequences. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from limbeck.lm.span_attention import Span, Stretch

# A branch costs two more calls of attention a layer, a shared token what it would take to compute it again.
LEAST_SHARED = 8


class Inputs(NamedTuple):
    """The tokens of a sequence, `prompt` of them its prompt's; those of one `item` have one prompt."""

    ids: tuple[int, ...]
    prompt: int
    item: int


@dataclass
class Tree:
    """A row: its token ids, the position of each in its sequences, its spans in order.

    `places`: for each sequence, where its tokens lie in the row.
    """

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    places: list[list[int]] = field(default_factory=list)


def tree_of(sequences: Sequence[Inputs]) -> Tree:
    """Lay sequences out, none of them empty: beginnings of `LEAST_SHARED` tokens and more once, prompts of an item
    always once; what shares a beginning stands behind it, branch by branch, in the order of the sequences.
    """
    tree = Tree(places=[[] for _ in sequences])
    waiting: list[tuple[list[int], tuple[Stretch, ...]]] = []
    _wait(waiting, sequences, list(range(len(sequences))), 0, ())
    while waiting:  # a stack, since nesting is as deep as the data wants
        members, before = waiting.pop()
        depth = sum(stop - start for start, stop in before)
        length = _common([sequences[member].ids for member in members], depth)
        span = Span(len(tree.ids), length, before)
        tree.spans.append(span)
        tree.ids += sequences[members[0]].ids[depth : depth + length]
        tree.positions += range(depth, depth + length)
        for member in members:
            tree.places[member] += range(*span.stretch)
        left = [member for member in members if len(sequences[member].ids) > depth + length]
        _wait(waiting, sequences, left, depth + length, (*before, span.stretch))
    return tree


def _wait(
    waiting: list[tuple[list[int], tuple[Stretch, ...]]],
    sequences: Sequence[Inputs],
    members: Sequence[int],
    depth: int,
    before: tuple[Stretch, ...],
) -> None:
    """Put those of `members` that go on alike from `depth` together, and the groups on the stack, the first on top."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for member in members:
        groups.setdefault(_going_on(sequences[member], member, depth), []).append(member)
    waiting += [(group, before) for group in reversed(groups.values())]


def _going_on(sequence: Inputs, member: int, depth: int) -> tuple[int, ...]:
    """What two sequences have in common that are to share their next tokens: these, or, near its end, the prompt."""
    if 0 < sequence.prompt - depth < LEAST_SHARED:
        return (-1, sequence.item)
    following = sequence.ids[depth : depth + LEAST_SHARED]
    return following if len(following) == LEAST_SHARED else (-2, member)


def _common(sequences: Sequence[tuple[int, ...]], depth: int) -> int:
    """How many tokens from `depth` on all sequences have in common."""
    first, *others = sequences
    stop = min(map(len, sequences))
    for other in others:
        if first[depth:stop] != other[depth:stop]:
            stop = next(place for place in range(depth, stop) if first[place] != other[place])
    return stop - depth
