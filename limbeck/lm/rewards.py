"""Sequences whose last state is a reward: how they are packed, and how the reward is read. Knows no loss.

An item's response ends with one token more, which is never read: what stands there is the reward, as the next token
would in a language model. So `pack` serves both, and the pair's shared beginning is computed once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from limbeck.lm.logps import states_at
from limbeck.lm.machine import on_device
from limbeck.lm.packed_model import PackedModel
from limbeck.lm.packing import Item, PackedRow, pack, under_budget

_READ_OUT = 0  # a target that nothing computes with


def alone(id_: str, ids: Sequence[int]) -> Item:
    """One conversation, to be scored at its last token."""
    return Item(id_, tuple(ids), ((_READ_OUT,),))


def compared(id_: str, chosen: Sequence[int], rejected: Sequence[int], source: str) -> Item | None:
    """Two conversations, each scored at its last token; what both begin with is computed once.

    None where they have no first token in common, or where both are the same.
    """
    shared = _shared(chosen, rejected)
    if shared == 0 or tuple(chosen) == tuple(rejected):
        return None
    branches = tuple((*ids[shared:], _READ_OUT) for ids in (chosen, rejected))
    return Item(id_, tuple(chosen[:shared]), branches, source)


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    for place, (mine, theirs) in enumerate(zip(left, right, strict=False)):
        if mine != theirs:
            return place
    return min(len(left), len(right))


def sequence_rewards(model: PackedModel, row: PackedRow, items: Sequence[Item]) -> Tensor:
    """The reward of each sequence of `row`, which packs `items`: [S], fp32; gradients flow.

    The head's product is computed in fp32 whatever the network's dtype: in bf16 rewards would have 8 bits, and tie.
    """
    lengths = torch.tensor([len(response) for item in items for response in item.responses])  # [S]
    last = on_device(lengths.cumsum(0) - 1, model.device)  # [S] places in the row's targets
    states = states_at(model.hidden(row.input_ids, row.position_ids, row.layout), row.predict_at[last])  # [S, H]
    bias = None if model.head.bias is None else model.head.bias[:1].float()
    # One row of the head: a classifier has no other; of a vocabulary, it is that of id 0.
    return linear(states.float(), model.head.weight[:1].float(), bias)[:, 0]  # [S, H] -> [S, 1] -> [S]


@torch.no_grad()
def packed_rewards(model: PackedModel, items: Sequence[Item], max_tokens: int) -> list[float]:
    """The rewards of all sequences of `items`, in their order, at most `max_tokens` computed at once."""
    found: list[float] = []
    for some in under_budget(items, max_tokens):
        found += sequence_rewards(model, pack(some, model.device), some).tolist()
    return found
