"""Floating-point operations that a training run needs: what the mathematics asks for, not what a contender carries out.

A prompt counts once, each response without its last token (nothing follows from it), the head only where a response
token is predicted; no padding, no recomputation. A multiply-add is 2 operations, and a backward pass twice its forward.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.workload import Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Sizes(NamedTuple):
    """What of a decoder decides its cost. `body_weights`, `head_weights`: weights of matrix products, a token each."""

    body_weights: int
    head_weights: int
    layers: int
    heads: int
    head_size: int


def sizes_of(network: "PreTrainedModel") -> Sizes:
    """Read a network's sizes from its modules and its config."""
    from torch import nn

    head = network.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise TypeError(f"{type(network).__name__} has no linear head")
    linear = [m.weight.numel() for m in network.modules() if isinstance(m, nn.Linear) and m is not head]
    config: Any = network.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Sizes(sum(linear), head.weight.numel(), config.num_hidden_layers, config.num_attention_heads, size)


def forward_flops(sizes: Sizes, row: Row) -> int:
    """Operations of one forward pass over a row: body, attention, head."""
    prompt = len(row.prompt)
    branches = [len(response) - 1 for response in row.responses]
    tokens = prompt + sum(branches)
    # A token in place i (from 1) of its sequence sees i keys.
    keys = _sum_to(prompt) + sum(_sum_to(prompt + branch) - _sum_to(prompt) for branch in branches)
    attention = 2 * (2 * sizes.heads * sizes.head_size) * keys * sizes.layers  # scores, then their sum over values
    return 2 * sizes.body_weights * tokens + attention + 2 * sizes.head_weights * row.num_targets


def training_flops(sizes: Sizes, rows: Sequence[Row], epochs: int, reference: bool) -> int:
    """Operations of `epochs` passes, forward and backward, and of one more forward pass where there is a reference."""
    once = sum(forward_flops(sizes, row) for row in rows)
    return once * (3 * epochs + reference)


def _sum_to(n: int) -> int:
    return n * (n + 1) // 2
