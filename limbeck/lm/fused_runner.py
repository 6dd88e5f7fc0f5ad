"""Llama-like decoders in fp32 or bf16 on a CPU: matrix products, and one compiled pass for all that lies between two.

The same arithmetic as transformers' modules, whose weights it reads. Whether a network is what it looks like is tried:
`can_be_fused` compares logits with the network's own before it is used.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import embedding

from limbeck.lm.attention import Layout
from limbeck.lm.kernels import Kernels
from limbeck.lm.kv_pages import Pages, Shape
from limbeck.lm.load import LanguageModel
from limbeck.lm.products import Products, own_products
from limbeck.lm.row_counts import RowCounts
from limbeck.lm.runner import Computed, Prefill
from limbeck.lm.span_attention import Span

_ALIKE = frozenset({"llama", "mistral", "qwen2", "qwen3"})
_RESTLESS_ANGLES = frozenset({"dynamic", "longrope"})
_MULTIPLE = 16  # of all three sizes: what the kernels compute at once
_LARGEST_HEAD = 256
_TRIED_IDS = 21  # more than a page of the cache
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}  # of the largest logit


class _Layer(NamedTuple):
    """One layer's modules."""

    before: Any
    attention: Any
    between: Any
    mlp: Any


class _Rows(NamedTuple):
    """Tokens side by side, of prompts or one of each slot: embedded [T, H], rotations, and where they stand.

    `angles`: cosines and sines [T, size]. `owners`, `positions` [T]: line of the page table, and place in its sequence.
    `places` [N, 3]: where keys and values go (kv_pages.py). All integers int32.
    """

    states: Tensor
    angles: tuple[Tensor, Tensor]
    owners: Tensor
    positions: Tensor
    places: Tensor


class FusedRunner:
    """Runs tokens through the layers, each attending to its sequence's pages in the cache."""

    def __init__(self, model: LanguageModel, kernels: Kernels, products: Products, slots: int, capacity: int) -> None:
        decoder: Any = model.decoder
        self._kernels, self._products, self._head = kernels, products, model.head
        self._embedding: Tensor = decoder.embed_tokens.weight
        self._angles: Any = decoder.rotary_emb
        self._norm: Any = decoder.norm
        self._layers = [
            _Layer(layer.input_layernorm, layer.self_attn, layer.post_attention_layernorm, layer.mlp)
            for layer in decoder.layers
        ]
        attention = self._layers[0].attention
        self._size: int = attention.head_dim
        self._scaling: float = attention.scaling
        shape = Shape(attention.k_proj.out_features // self._size, self._size)
        self._pages = Pages(slots, capacity, len(self._layers), shape, self._embedding.dtype)

    def prefill(self, prompts: list[Prefill], counts: RowCounts) -> Computed:
        """Passes over all tokens that no cached page holds; where one ends does not matter: attention reads pages."""
        ids: list[int] = []
        positions: list[int] = []
        owners: list[int] = []
        places = [torch.empty((0, 3), dtype=torch.int32)]
        for prompt in prompts:
            filled = self._pages.fill(prompt.ids, prompt.slots, len(ids))
            positions += range(filled.start, len(prompt.ids))
            owners += [prompt.slots[0]] * (len(prompt.ids) - filled.start)
            ids += prompt.ids[filled.start :]
            places.append(filled.places)
        where = torch.cat(places)
        computed = 0
        for start in range(0, len(ids), counts.usual):
            part = slice(start, min(start + counts.usual, len(ids)))
            number = counts.at_least(part.stop - start)
            own = where[(where[:, 0] >= start) & (where[:, 0] < part.stop)] - torch.tensor([start, 0, 0])
            self._prefill(self._rows(ids[part], owners[part], positions[part], own.int().contiguous(), number))
            computed += number
        return Computed(computed, len(ids))

    def _prefill(self, rows: _Rows) -> None:
        last = len(self._layers) - 1
        states = rows.states
        for index in range(last):
            states = self._layer(index, states, rows)
        # The rest of the last layer is of no use: what follows from a prompt is asked with its last token, in a step.
        _, keys, values = self._projected(last, states)
        self._store(last, keys, values, rows)

    def decode(self, ids: list[int], positions: list[int], num_rows: int) -> Tensor:
        """One token a slot; rows beyond the slots belong to nobody. Returns logits [num_rows, V]."""
        for slot, position in enumerate(positions):
            self._pages.extend(slot, position)
        slots = list(range(len(ids)))
        rows = self._rows(ids, slots, positions, self._pages.places(positions), num_rows)
        states = rows.states
        for index in range(len(self._layers)):
            states = self._layer(index, states, rows)
        normed = self._kernels.normalise(states, self._norm.weight, self._norm.variance_epsilon)
        return self._products(normed, self._head, torch.float32)

    def move(self, source: int, target: int, length: int) -> None:
        """Hand over pages; nothing is copied, however many positions they hold."""
        del length
        self._pages.move(source, target)

    def release(self, slot: int) -> None:
        """Give the slot's pages back."""
        self._pages.release(slot)

    def _rows(self, ids: list[int], owners: list[int], positions: list[int], places: Tensor, number: int) -> _Rows:
        """Rows of these tokens, and as many more as there are to be."""
        idle = number - len(ids)
        nobody = len(self._pages.tables) - 1
        cosines, sines = self._angles(self._embedding, torch.tensor([positions + [0] * idle]))
        return _Rows(
            states=embedding(torch.tensor(ids + [0] * idle), self._embedding),
            angles=(cosines[0].contiguous(), sines[0].contiguous()),
            owners=torch.tensor(owners + [nobody] * idle, dtype=torch.int32),
            positions=torch.tensor(positions + [0] * idle, dtype=torch.int32),
            places=places,
        )

    def _layer(self, index: int, states: Tensor, rows: _Rows) -> Tensor:
        """Hidden states [T, H] to those of the next layer."""
        _, attention, between, mlp = self._layers[index]
        queries, keys, values = self._projected(index, states)
        self._store(index, keys, values, rows)
        self._kernels.rotate(queries, *rows.angles)
        where = (rows.owners, rows.positions)
        attended = self._kernels.attend(queries, where, self._pages.tables, self._pages.layers[index], self._scaling)
        states = states + self._products(attended, attention.o_proj)
        normed = self._kernels.normalise(states, between.weight, between.variance_epsilon)
        gates, ups = (self._products(normed, part) for part in (mlp.gate_proj, mlp.up_proj))
        return states + self._products(self._kernels.gate(gates, ups), mlp.down_proj)

    def _store(self, index: int, keys: Tensor, values: Tensor, rows: _Rows) -> None:
        self._kernels.rotate(keys, *rows.angles)
        self._kernels.store(keys, values, rows.places, *self._pages.layers[index])

    def _projected(self, index: int, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values [T, heads, size] of a layer, before rotation."""
        before, attention = self._layers[index].before, self._layers[index].attention
        normed = self._kernels.normalise(states, before.weight, before.variance_epsilon)
        queries, keys, values = (
            self._products(normed, part).view(len(states), -1, self._size)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        if hasattr(attention, "q_norm"):
            queries = self._kernels.normalise(queries, attention.q_norm.weight, attention.q_norm.variance_epsilon)
            keys = self._kernels.normalise(keys, attention.k_norm.weight, attention.k_norm.variance_epsilon)
        return queries, keys, values


def can_be_fused(model: LanguageModel, kernels: Kernels) -> bool:
    """Whether the model is one of those known here, and the runner computes what its network computes."""
    if not _looks_alike(model):
        return False
    ids = [(number + 1) * (model.head.out_features // (_TRIED_IDS + 1)) for number in range(_TRIED_IDS)]
    positions = torch.arange(_TRIED_IDS)[None]
    with torch.inference_mode():
        hidden = model.hidden(torch.tensor([ids]), positions, Layout([Span(0, _TRIED_IDS)]))
        own = model.head(hidden[-1]).float()
        tried = FusedRunner(model, kernels, own_products, 1, _TRIED_IDS)
        tried.prefill([Prefill(tuple(ids[:-1]), (0,))], RowCounts([], _TRIED_IDS))
        ours = tried.decode(ids[-1:], [_TRIED_IDS - 1], 1)[0]
    return float((ours - own).abs().max() / own.abs().max()) <= _TOLERANCE[model.head.weight.dtype]


def _looks_alike(model: LanguageModel) -> bool:
    config = model.network.config
    decoder = model.decoder
    if model.device.type != "cpu" or model.head.weight.dtype not in _TOLERANCE or config.model_type not in _ALIKE:
        return False
    attention = cast(Any, decoder).layers[0].self_attn
    size: int = attention.head_dim
    return (
        config.hidden_act == "silu"
        # Angles that depend on the longest position of a pass would make a sample depend on its neighbours.
        and getattr(cast(Any, decoder).rotary_emb, "rope_type", None) not in _RESTLESS_ANGLES
        and size % _MULTIPLE == config.hidden_size % _MULTIPLE == config.intermediate_size % _MULTIPLE == 0
        and size <= _LARGEST_HEAD
        and not any(_window(layer.self_attn, config) for layer in cast(Any, decoder).layers)
        and all(parameter.dtype == model.head.weight.dtype for parameter in decoder.parameters())
    )


def _window(attention: Any, config: Any) -> int | None:
    """A layer's sliding window. Mistral's attention reads it from the configuration in every pass."""
    window: int | None = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
    return window
