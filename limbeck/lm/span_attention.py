"""Attention over the spans of a packed row: no mask matrix, no pad, no key or value repeated.

Attention to stretches before and to oneself is several attentions over slices of the row, joined by their
log-sum-exps; all spans that share a stretch read it in one call. The backward needs only the joined output and
log-sum-exp, so each call has a backward of its own, whose gradients add up in place: no slice's gradient is a tensor of
the whole row.

On a CPU each call is the library's fused kernel. On CUDA all spans are one variable-length call. `masked` is the slow,
obvious form: the reference of the tests, and the path of windows and devices that the others do not know.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from limbeck.lm.machine import on_device

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Stretch(NamedTuple):
    """Tokens of a row, from `start` to before `stop`."""

    start: int
    stop: int

    @property
    def part(self) -> slice:
        """The same, to index with."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Span:
    """`length` tokens of a row from `start`; they see the tokens of `before`, in this order, and themselves.

    `before`: earlier spans of the row, which its sequence begins with. `slots`: cache slots that receive the span's
    keys and values (prefill); empty while training.
    """

    start: int
    length: int
    before: tuple[Stretch, ...] = ()
    slots: tuple[int, ...] = ()

    @property
    def stretch(self) -> Stretch:
        """Where the span lies in the row."""
        return Stretch(self.start, self.start + self.length)

    @property
    def own(self) -> slice:
        """The same, to index with."""
        return self.stretch.part

    @property
    def num_before(self) -> int:
        """Tokens of its sequence before it."""
        return sum(stop - start for start, stop in self.before)

    @property
    def num_keys(self) -> int:
        """Tokens that the span's last token sees, itself included."""
        return self.num_before + self.length

    @property
    def seen(self) -> tuple[slice, ...]:
        """Where the tokens lie that its last token sees, in the order of its sequence."""
        return (*(stretch.part for stretch in self.before), self.own)


class Call(NamedTuple):
    """Queries that see all the keys, or (causal, the same tokens) each the keys up to its own."""

    queries: slice
    keys: slice
    causal: bool


@dataclass(frozen=True)
class Plan:
    """The spans of a row, which must cover it in order, and what all layers share of them.

    Spans that see a stretch must be neighbours, as in a tree that is walked branch by branch.
    """

    spans: Sequence[Span]

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """What the row's attention is made of: each span to itself, all that share a stretch together to it."""
        own = [Call(span.own, span.own, causal=True) for span in self.spans]
        readers: dict[Stretch, Stretch] = {}
        for span in self.spans:
            for stretch in span.before:
                first = readers.get(stretch, span.stretch)
                readers[stretch] = Stretch(first.start, span.stretch.stop)
        return (*own, *(Call(queries.part, keys.part, causal=False) for keys, queries in readers.items()))

    @property
    def most_keys(self) -> int:
        """Tokens that the longest sequence sees."""
        return max((span.num_keys for span in self.spans), default=0)

    @cached_property
    def _ragged(self) -> "_Ragged":
        return _Ragged.of(self.spans)

    def ragged(self, device: torch.device) -> "_Ragged":
        """The spans as one variable-length call wants them, on `device`; made once a row."""
        made = self._ragged
        for name in ("queries_from", "keys_from", "key_index"):
            held = getattr(made, name)
            if held.device != device:
                setattr(made, name, on_device(held, device))
        return made


@dataclass
class _Ragged:
    """`key_index`: the tokens that each span sees, span after span; `*_from`: [S + 1] int32, where each begins."""

    key_index: Tensor
    queries_from: Tensor
    keys_from: Tensor
    most_queries: int
    most_keys: int

    @staticmethod
    def of(spans: Sequence[Span]) -> "_Ragged":
        index = [torch.arange(part.start, part.stop) for span in spans for part in span.seen]
        return _Ragged(
            key_index=torch.cat(index),
            queries_from=_starts([span.length for span in spans]),
            keys_from=_starts([span.num_keys for span in spans]),
            most_queries=max(span.length for span in spans),
            most_keys=max(span.num_keys for span in spans),
        )


def _starts(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def attend_spans(
    query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: float, window: int | None = None
) -> Tensor:
    """Attention of every span: query [heads, T, size], key and value [key/value heads, T, size] -> [heads, T, size].

    `window`: a token sees the last `window` tokens of its sequence only, itself included.
    """
    if window is not None and window >= plan.most_keys:
        window = None
    if query.device.type == "cpu" and window is None and query.shape[-1] == value.shape[-1]:
        out: Tensor = cast(Any, _SpanAttention).apply(query, key, value, plan, scaling)
        return out
    if _has_ragged_kernel(query, value):
        return _attend_ragged(query, key, value, plan, scaling, window)
    return masked(query, key, value, plan, scaling, window)


def masked(query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: float, window: int | None = None) -> Tensor:
    """The slow, obvious form of `attend_spans`: span by span, what it sees side by side, what is unseen masked."""
    grouped = query.shape[0] != key.shape[0]
    parts = []
    for span in plan.spans:
        k, v = (torch.cat([states[None, :, part] for part in span.seen], dim=2) for states in (key, value))
        places = torch.arange(span.num_keys, device=query.device)
        behind = places[span.num_before :, None] - places  # [length, num_keys]: how far back each key lies
        seen = (behind >= 0) & (behind < (window or span.num_keys))
        q = query[None, :, span.own]
        parts.append(scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scaling, enable_gqa=grouped)[0])
    return torch.cat(parts, dim=1)


def _has_ragged_kernel(query: Tensor, value: Tensor) -> bool:
    """Whether the variable-length flash kernel takes these states: half precision, and a GPU of Ampere or newer."""
    return (
        query.device.type == "cuda"
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] == value.shape[-1] <= 256
        and query.shape[-1] % 8 == 0
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def _attend_ragged(query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: float, window: int | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    # Queries stand at the end of their keys: the kernel aligns causality and windows at the last of both.
    ragged = plan.ragged(query.device)
    out = varlen_attn(
        query.transpose(0, 1),  # [T, heads, size]
        _gathered(key, ragged.key_index),
        _gathered(value, ragged.key_index),
        ragged.queries_from,
        ragged.keys_from,
        ragged.most_queries,
        ragged.most_keys,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[0] != key.shape[0],
    )
    return cast(Tensor, out).transpose(0, 1)


def _gathered(states: Tensor, index: Tensor) -> Tensor:
    """[heads, T, size] -> [len(index), heads, size]; in fp32 on the way, so that gradients of what many see add up."""
    return states.transpose(0, 1).float().index_select(0, index).to(states.dtype)


class _SpanAttention(torch.autograd.Function):
    """[G, h, n, size] below: G key/value heads, h query heads to each; keys and values are expanded, not repeated.

    Computed in fp32 at least, also for bf16 states: for such short sequences the kernel is faster in fp32 than in bf16
    (its backward 2 to 5 times), and closer to the exact result.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: float) -> Tensor:
        wide = torch.promote_types(query.dtype, torch.float32)
        q, k, v = (_by_group(states, key.shape[0]).to(wide) for states in (query, key, value))  # [G, h or 1, T, size]
        joined, normaliser = torch.empty_like(q), q.new_empty(q.shape[:3])
        for call in plan.calls:
            at = call.queries
            seen = (states[:, :, call.keys].expand(-1, q.shape[1], -1, -1) for states in (k, v))
            part, mass = _forward(q[:, :, at], *seen, 0.0, call.causal, scale=scaling)
            if not call.causal:  # the queries have attended to themselves already
                before = normaliser[:, :, at]
                mass, own = torch.logaddexp(mass, before), torch.sigmoid(before - mass)[..., None]
                part = torch.lerp(part, joined[:, :, at], own)
            joined[:, :, at] = part
            normaliser[:, :, at] = mass
        out = joined.flatten(0, 1).to(query.dtype)
        ctx.save_for_backward(query, key, value, out, normaliser)
        ctx.plan, ctx.scaling = plan, scaling
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Each call's own backward, given the joined output and log-sum-exp."""
        query, key, value, out, normaliser = ctx.saved_tensors
        given = (query, key, value, out, grads[0])
        q, k, v, o, grad = (_by_group(states, key.shape[0]).to(normaliser.dtype) for states in given)
        grad_q, grad_k, grad_v = (torch.zeros_like(states) for states in (q, k, v))
        for call in ctx.plan.calls:
            at, keys = call.queries, call.keys
            seen = (states[:, :, keys].expand(-1, q.shape[1], -1, -1) for states in (k, v))
            parts = _backward(
                grad[:, :, at],
                q[:, :, at],
                *seen,
                o[:, :, at],
                normaliser[:, :, at],
                0.0,
                call.causal,
                scale=ctx.scaling,
            )
            grad_q[:, :, at] += parts[0]
            grad_k[:, :, keys] += parts[1].sum(1, keepdim=True)
            grad_v[:, :, keys] += parts[2].sum(1, keepdim=True)
        found = zip((grad_q, grad_k, grad_v), (query, key, value), strict=True)
        grad_query, grad_key, grad_value = (each.flatten(0, 1).to(states.dtype) for each, states in found)
        return grad_query, grad_key, grad_value, None, None


def _by_group(states: Tensor, groups: int) -> Tensor:
    """[heads, T, size] -> [groups, heads / groups, T, size]."""
    return cast(Tensor, cast(Any, states).unflatten(0, (groups, -1)))
