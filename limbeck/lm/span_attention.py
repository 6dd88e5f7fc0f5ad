"""Attention over the spans of a packed row, with a backward of its own.

Forward: the library's fused kernel, one call a span, keys and values never repeated. Backward: spans of like size are
worked on together in padded batches (only here, where it is cheap) with five batched matrix products, because the
library's fused backward is several times slower than that for short sequences on a CPU. Probabilities are computed
again from fp32 scores; the other products run in the dtype of the states.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

# Sizes are rounded up to this, so that few distinct shapes occur and little is padded.
_SIZE_MULTIPLE = 32
# Scores of one batch, a head: bounds what a backward pass holds at once (times heads times 4 bytes).
_MAX_SCORES = 1 << 21


@dataclass(frozen=True)
class Span:
    """`length` tokens of a row from `start`; they see `prefix_length` earlier ones from `prefix_start`, and themselves.

    `slots`: cache slots that receive the span's keys and values (prefill); empty while training.
    """

    start: int
    length: int
    prefix_start: int = 0
    prefix_length: int = 0
    slots: tuple[int, ...] = ()

    @property
    def num_keys(self) -> int:
        """Tokens that the span's last token sees, itself included."""
        return self.prefix_length + self.length


class _Batch(NamedTuple):
    """Spans that are worked on together; `seen` is [n, 1, 1, queries, keys] bool."""

    spans: tuple[Span, ...]
    seen: Tensor

    def queries(self, states: Tensor) -> Tensor:
        """[heads, T, size] -> [n, heads, queries, size], zeros behind each span."""
        out = states.new_zeros(len(self.spans), states.shape[0], self.seen.shape[3], states.shape[2])
        for row, span in enumerate(self.spans):
            out[row, :, : span.length] = states[:, span.start : span.start + span.length]
        return out

    def keys(self, states: Tensor) -> Tensor:
        """[heads, T, size] -> [n, heads, keys, size]: prefix, then span, zeros behind."""
        out = states.new_zeros(len(self.spans), states.shape[0], self.seen.shape[4], states.shape[2])
        for row, span in enumerate(self.spans):
            before = slice(span.prefix_start, span.prefix_start + span.prefix_length)
            out[row, :, : span.prefix_length] = states[:, before]
            out[row, :, span.prefix_length : span.num_keys] = states[:, span.start : span.start + span.length]
        return out

    def add_keys(self, target: Tensor, values: Tensor) -> None:
        """Add [n, heads, keys, size] back to where `keys` took them from: a prefix collects from all its branches."""
        for row, span in enumerate(self.spans):
            target[:, span.prefix_start : span.prefix_start + span.prefix_length] += values[
                row, :, : span.prefix_length
            ]
            target[:, span.start : span.start + span.length] += values[row, :, span.prefix_length : span.num_keys]


@dataclass
class Plan:
    """The spans of a row, and what all layers share of them; masks and batches are made once a row."""

    spans: Sequence[Span]
    _masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    _batches: list[_Batch] = field(default_factory=list)

    def prefix_mask(self, span: Span, device: torch.device) -> Tensor:
        """[length, num_keys] bool: the whole prefix, and the span itself causally."""
        key = (span.prefix_length, span.length)
        if key not in self._masks:
            seen = torch.ones(span.length, span.num_keys, dtype=torch.bool, device=device)
            self._masks[key] = seen.tril(span.prefix_length)
        return self._masks[key]

    def batches(self, device: torch.device) -> list[_Batch]:
        """The spans, grouped by size."""
        if not self._batches:
            self._batches = [_batch(group, device) for group in _groups(self.spans)]
        return self._batches


def _rounded(length: int) -> int:
    return -(-length // _SIZE_MULTIPLE) * _SIZE_MULTIPLE


def _groups(spans: Sequence[Span]) -> list[list[Span]]:
    by_size: dict[tuple[int, int], list[Span]] = {}
    for span in spans:
        by_size.setdefault((_rounded(span.length), _rounded(span.num_keys)), []).append(span)
    groups = []
    for (queries, keys), members in by_size.items():
        most = max(1, _MAX_SCORES // (queries * keys))
        groups += [members[at : at + most] for at in range(0, len(members), most)]
    return groups


def _batch(spans: Sequence[Span], device: torch.device) -> _Batch:
    queries = torch.arange(max(span.length for span in spans), device=device)[:, None]
    keys = torch.arange(max(span.num_keys for span in spans), device=device)[None, :]
    seen = torch.stack([(keys <= queries + span.prefix_length) & (keys < span.num_keys) for span in spans])
    return _Batch(tuple(spans), seen[:, None, None])


def attend_spans(query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: float) -> Tensor:
    """Attention of every span: query [heads, T, size], key and value [key/value heads, T, size] -> [heads, T, size].

    The spans must cover the T tokens in order.
    """
    if query.device.type != "cpu":
        return _fused(query, key, value, plan, scaling)  # only the CPU's own backward is slow
    out: Tensor = cast(Any, _SpanAttention).apply(query, key, value, plan, scaling)
    return out


def _fused(query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: float) -> Tensor:
    grouped = query.shape[0] != key.shape[0]
    parts = []
    for span in plan.spans:
        own = slice(span.start, span.start + span.length)
        q, k, v = query[None, :, own], key[None, :, own], value[None, :, own]
        mask = None
        if span.prefix_length:
            before = slice(span.prefix_start, span.prefix_start + span.prefix_length)
            k = torch.cat([key[None, :, before], k], dim=2)
            v = torch.cat([value[None, :, before], v], dim=2)
            mask = plan.prefix_mask(span, query.device)
        parts.append(
            scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=grouped
            )[0]
        )
    return torch.cat(parts, dim=1)


class _SpanAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: float) -> Tensor:
        out = _fused(query, key, value, plan, scaling)
        ctx.save_for_backward(query, key, value, out)
        ctx.plan, ctx.scaling = plan, scaling
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """The softmax attention's derivatives; `drift` is rowsum(dO * O), as in Dao et al. 2022, equation 4."""
        query, key, value, out = ctx.saved_tensors
        grad_query, grad_key, grad_value = (torch.zeros_like(states) for states in (query, key, value))
        for batch in ctx.plan.batches(query.device):
            q, o, do = (_by_group(batch.queries(states), key.shape[0]) for states in (query, out, grads[0]))
            k, v = (batch.keys(states) for states in (key, value))  # [n, G, keys, size]
            scores = (q.float() @ k.float().transpose(-1, -2)).mul_(ctx.scaling)  # [n, G, heads/G * queries, keys]
            split = (*scores.shape[:2], -1, *batch.seen.shape[3:])
            scores.view(split).masked_fill_(~batch.seen, float("-inf"))
            chance = torch.softmax(scores, dim=-1)
            drift = (do.float() * o.float()).sum(-1, keepdim=True)
            slope = ((do @ v.transpose(-1, -2)).float() - drift).mul_(chance).mul_(ctx.scaling).to(query.dtype)
            batch.add_keys(grad_value, chance.to(query.dtype).transpose(-1, -2) @ do)
            batch.add_keys(grad_key, slope.transpose(-1, -2) @ q)
            by_head = (slope @ k).view(len(batch.spans), query.shape[0], -1, query.shape[2])
            for row, span in enumerate(batch.spans):
                grad_query[:, span.start : span.start + span.length] = by_head[row, :, : span.length]
        return grad_query, grad_key, grad_value, None, None


def _by_group(states: Tensor, groups: int) -> Tensor:
    """[n, heads, queries, size] -> [n, groups, heads/groups * queries, size]: heads that share keys side by side."""
    return states.reshape(states.shape[0], groups, -1, states.shape[3])
