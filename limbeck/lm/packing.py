"""Rows of token ids in, packed rows out: no pad token, each sequence seeing only itself.

What sequences of a row begin with alike is computed once (`sharing.py`): the prompt of a pair, which both responses
see; a system text or a template that many prompts have. The last hidden state of a prompt predicts the first token of
its responses. The last token of a response is a target only, never an input. Pure: ids in, tensors out.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.lm.attention import Layout
from limbeck.lm.machine import on_device
from limbeck.lm.scope import Part
from limbeck.lm.sharing import Inputs, tree_of


@dataclass(frozen=True)
class Item:
    """A prompt and one response (SFT) or two (a pair: chosen, rejected), as token ids; none of them empty.

    `source`: of the record, what metrics are split by; it decides nothing. `counted`: of a pair, the part of
    each response that its log-probabilities are summed over; None: all of it.
    """

    id: str
    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    source: str = ""
    counted: tuple[Part, ...] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed of it alone: the prompt once, each response without its last token."""
        return len(self.prompt) + sum(len(response) - 1 for response in self.responses)

    @property
    def num_targets(self) -> int:
        """Response tokens, end-of-turn included."""
        return sum(len(response) for response in self.responses)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Of each response what a pair's log-probabilities are summed over."""
        return self.counted or tuple(Part(0, len(response)) for response in self.responses)


@dataclass(frozen=True)
class PackedRow:
    """Items packed into one row of T tokens with N targets in S sequences (a response each, in the items' order).

    `input_ids`, `position_ids`: [1, T]. `predict_at`: [N] index of the hidden state that predicts each target.
    `targets`: [N] token ids. `owner`: [N] sequence of each target. `distinct`: [M] the first of all that predict one
    target from one state, as responses do that begin alike; `same_as`: [N] which of these each target is. `counts`:
    [N] bool, whether it is among those that a pair's log-probabilities are summed over.
    """

    ids: tuple[str, ...]
    input_ids: Tensor
    position_ids: Tensor
    predict_at: Tensor
    targets: Tensor
    distinct: Tensor
    same_as: Tensor
    owner: Tensor
    counts: Tensor
    num_sequences: int
    layout: Layout


def pack(items: Sequence[Item], device: torch.device) -> PackedRow:
    """Pack `items` into one row, in which beginnings that they share are computed once."""
    sequences: list[Inputs] = []
    targets: list[int] = []
    owner: list[int] = []
    counts: list[int] = []
    for number, item in enumerate(items):
        for response, part in zip(item.responses, item.parts, strict=True):
            owner += [len(sequences)] * len(response)
            targets += response
            counts += [int(part.start <= at < part.end) for at in range(len(response))]
            sequences.append(Inputs(item.prompt + response[:-1], len(item.prompt), number))
    tree = tree_of(sequences)
    predict_at = [
        place
        for sequence, places in zip(sequences, tree.places, strict=True)
        for place in places[sequence.prompt - 1 :]
    ]
    distinct, same_as = _distinct(zip(predict_at, targets, strict=True))

    def tensor(values: list[int]) -> Tensor:
        return on_device(torch.tensor(values, dtype=torch.int64), device)

    return PackedRow(
        ids=tuple(item.id for item in items),
        input_ids=tensor(tree.ids)[None],
        position_ids=tensor(tree.positions)[None],
        predict_at=tensor(predict_at),
        targets=tensor(targets),
        distinct=tensor(distinct),
        same_as=tensor(same_as),
        owner=tensor(owner),
        counts=tensor(counts).bool(),
        num_sequences=len(sequences),
        layout=Layout(tree.spans),
    )


def _distinct(predictions: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Where each prediction stands first, and which of these each is."""
    ranks: dict[tuple[int, int], int] = {}
    distinct: list[int] = []
    same_as: list[int] = []
    for number, prediction in enumerate(predictions):
        if prediction not in ranks:
            ranks[prediction] = len(distinct)
            distinct.append(number)
        same_as.append(ranks[prediction])
    return distinct, same_as


def neighbours(items: Sequence[Item]) -> list[Item]:
    """The items in an order in which those that begin alike come to lie in one row, whatever their order was."""
    return sorted(items, key=lambda item: (item.prompt, item.responses))


def under_budget(items: Sequence[Item], max_tokens: int) -> Iterator[list[Item]]:
    """Split `items`, in order and whole, into runs of at most `max_tokens` tokens, counted as if nothing were shared; a
    longer one goes alone.
    """
    run: list[Item] = []
    tokens = 0
    for item in items:
        if run and tokens + item.num_tokens > max_tokens:
            yield run
            run, tokens = [], 0
        run.append(item)
        tokens += item.num_tokens
    if run:
        yield run
