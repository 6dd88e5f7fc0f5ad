"""One attention function for everything: packed training rows, prefill and decoding, without a mask matrix or a pad.

Registered with transformers' attention interface under the name `limbeck`, so that any decoder that uses the interface
runs unpatched. What may see what is not a mask but a `Layout`, which travels through the model's keyword arguments:

    row of T tokens:  [ span | span | ... ]    or    [ one token for each active cache slot ]

A span sees the spans that its sequence begins with, and itself causally; a decode token sees its cache slot.
Knows nothing of losses, templates or sampling.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from limbeck.errors import ModelError
from limbeck.lm.machine import on_device
from limbeck.lm.span_attention import Plan, Span, attend_spans

NAME = "limbeck"
_SEEN_MULTIPLE = 32


class Cache:
    """Static keys and values: one [slots, key/value heads, capacity, head size] pair a layer, made on demand.

    Active slots are 0 ... n-1, so that decoding reads views, never copies.
    """

    def __init__(self, num_slots: int, capacity: int) -> None:
        self.num_slots = num_slots
        # Kernels take another order of summation for what is left over of a multiple: there is to be nothing left.
        self.capacity = -(-capacity // _SEEN_MULTIPLE) * _SEEN_MULTIPLE
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def layer(self, index: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the layer's (keys, values); `like` is any [1, heads, tokens, head size] tensor of that layer."""
        if index not in self.layers:
            shape = (self.num_slots, like.shape[1], self.capacity, like.shape[3])
            self.layers[index] = (like.new_zeros(shape), like.new_zeros(shape))
        return self.layers[index]

    def seen(self, length: int) -> int:
        """How many positions are read where the longest slot holds `length`: few distinct numbers."""
        return min(-(-length // _SEEN_MULTIPLE) * _SEEN_MULTIPLE, self.capacity)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of slot `source` to slot `target`."""
        for keys, values in self.layers.values():
            keys[target, :, :length] = keys[source, :, :length]
            values[target, :, :length] = values[source, :, :length]


class Decoding:
    """One token for each of the cache's first n slots; `positions[i]` is where it stands in slot i.

    `seen`: how many positions of a slot are read, of `Cache.seen`.
    """

    def __init__(self, cache: Cache, positions: Tensor, seen: int) -> None:
        self.cache, self.positions, self.seen = cache, positions, seen  # positions: [n] int64
        self.slots = torch.arange(len(positions), device=positions.device)
        self._masks: dict[int | None, Tensor] = {}

    def mask(self, window: int | None) -> Tensor:
        """[n, 1, 1, seen] bool: the positions up to a token's own, the last `window` of them; made once a pass."""
        if window not in self._masks:
            behind = self.positions[:, None] - torch.arange(self.seen, device=self.positions.device)  # [n, seen]
            visible = behind >= 0 if window is None else (behind >= 0) & (behind < window)
            self._masks[window] = visible[:, None, None, :]
        return self._masks[window]

    def __len__(self) -> int:
        return len(self.positions)


class Layout:
    """What each token of a row may see: a row of spans in their order (`cache`: where prompts' keys and values go), or,
    where `decoding` is given, one token of each of its slots.
    """

    def __init__(
        self, spans: Sequence[Span] = (), cache: Cache | None = None, decoding: Decoding | None = None
    ) -> None:
        self.spans, self.cache, self.decoding = spans, cache, decoding
        self.plan = Plan(spans)
        self._kept: tuple[Tensor, Tensor, Tensor] | None = None

    def kept(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """What goes into the cache: tokens of the row, and the slot and the position of each; a token in each slot that
        receives its span. Made once a pass, for all layers.
        """
        if self._kept is None:
            into = [(span, slot) for span in self.spans for slot in span.slots]
            tokens = torch.cat([torch.arange(span.start, span.start + span.length) for span, _ in into])
            slots = torch.cat([torch.full((span.length,), slot) for span, slot in into])
            places = torch.cat([torch.arange(span.length) for span, _ in into])
            self._kept = (on_device(tokens, device), on_device(slots, device), on_device(places, device))
        return self._kept


class _States(NamedTuple):
    """One layer's queries, keys and values of a row: [1, heads, T, head size] each."""

    query: Tensor
    key: Tensor
    value: Tensor
    scaling: float


def attend(
    module: nn.Module,
    query: Tensor,  # [1, query heads, T, head size]
    key: Tensor,  # [1, key/value heads, T, head size]
    value: Tensor,  # [1, key/value heads, T, head size]
    _attention_mask: Tensor | None,  # always None: the layout says what may be seen
    *,
    scaling: float | None = None,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention of one layer over one row; returns ([1, T, query heads, head size], None) as the interface wants."""
    if layout is None:
        layout = Layout([Span(0, query.shape[2])])
    if s_aux is not None:
        raise ModelError("this model attends with learnt sinks, which the packed attention does not do")
    if softcap is not None:
        raise ModelError("this model caps its attention logits, which the packed attention does not do")
    states = _States(query, key, value, query.shape[3] ** -0.5 if scaling is None else scaling)
    if layout.decoding is not None:
        return _decode(module, layout.decoding, states, sliding_window).transpose(1, 2), None
    if layout.cache is not None:
        _store(module, layout.cache, layout, states)
    out = attend_spans(query[0], key[0], value[0], layout.plan, states.scaling, sliding_window)[None]
    return out.transpose(1, 2), None


def _store(module: nn.Module, cache: Cache, layout: Layout, states: _States) -> None:
    """Write prompts' keys and values into their cache slots."""
    keys, values = cache.layer(_layer_index(module), states.key)
    tokens, slots, places = layout.kept(states.key.device)
    keys[slots, :, places] = states.key[0].transpose(0, 1)[tokens]  # [kept, key/value heads, size]
    values[slots, :, places] = states.value[0].transpose(0, 1)[tokens]


def _decode(module: nn.Module, decoding: Decoding, states: _States, window: int | None) -> Tensor:
    n, heads, size = len(decoding), states.query.shape[1], states.query.shape[3]
    keys, values = decoding.cache.layer(_layer_index(module), states.key)
    keys[decoding.slots, :, decoding.positions] = states.key[0].transpose(0, 1)  # [n, key/value heads, size]
    values[decoding.slots, :, decoding.positions] = states.value[0].transpose(0, 1)
    # Queries that share a key/value head become the "tokens" of that head: no key is repeated.
    groups = keys.shape[1]
    query = states.query[0].transpose(0, 1).reshape(n, groups, heads // groups, size)
    out = scaled_dot_product_attention(
        query,
        keys[:n, :, : decoding.seen],
        values[:n, :, : decoding.seen],
        attn_mask=decoding.mask(window),
        scale=states.scaling,
    )
    return out.reshape(1, n, heads, size).transpose(1, 2)


def _layer_index(module: nn.Module) -> int:
    index = module.layer_idx
    if not isinstance(index, int):
        raise ModelError(f"{type(module).__name__} has no layer number, which the key/value cache needs")
    return index


AttentionInterface.register(NAME, attend)
