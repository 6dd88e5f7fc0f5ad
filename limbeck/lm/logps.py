"""Log-probabilities of target tokens: the one place where hidden states meet the vocabulary.

linear + log-softmax + gather, in chunks of the vocabulary with a backward of its own, so that no more of a
[targets, vocabulary] tensor than one chunk ever exists. Matrix products run in the model's dtype, the log-sum-exp and
the sum over chunks in fp32; each row of the head's gradient is one product over all targets, summed in fp32 inside it.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import embedding

from limbeck.lm.packed_model import PackedModel
from limbeck.lm.packing import PackedRow

# Words of the vocabulary at once. Measured for 300 and 1,200 targets, 49,152 words, hidden size 576, on two cores:
# 1,024 to 8,192 are within 6 % of each other; chunks of targets instead (512, all words) took 1.4 times as long.
CHUNK_WORDS = 4096


class _Chunk(NamedTuple):
    """Logits of some words of the vocabulary: [N, words], fp32, and the same memory in the model's dtype for products.

    Both are the same tensor in fp32.
    """

    words: slice
    logits: Tensor
    narrow: Tensor

    def places(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Which targets are among these words, [N] bool, and at which column; any column where they are not."""
        place = targets - self.words.start
        width = self.logits.shape[1]
        return (place >= 0) & (place < width), place.clamp(0, width - 1)


def _chunks(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Iterator[_Chunk]:
    """Yield the logits chunk by chunk; each overwrites the one before, so that fresh memory is touched once."""
    most = min(CHUNK_WORDS, weight.shape[0])
    narrow_store = hidden.new_empty(hidden.shape[0] * most)
    store = (
        narrow_store
        if hidden.dtype == torch.float32
        else narrow_store.new_empty(len(narrow_store), dtype=torch.float32)
    )
    for at in range(0, weight.shape[0], most):
        words = slice(at, min(at + most, weight.shape[0]))
        size = (hidden.shape[0], words.stop - at)
        narrow = narrow_store[: size[0] * size[1]].view(size)  # [N, words]
        logits = narrow if store is narrow_store else store[: narrow.numel()].view(size)
        torch.mm(hidden, weight[words].t(), out=narrow)
        if logits is not narrow:
            logits.copy_(narrow)
        if bias is not None:
            logits += bias[words]
        yield _Chunk(words, logits, narrow)


class _TargetLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        """hidden [N, H], weight [V, H], bias [V], targets [N] -> log p(target) [N], fp32."""
        picked = hidden.new_zeros(hidden.shape[0], dtype=torch.float32)
        normaliser = torch.full_like(picked, float("-inf"))
        for chunk in _chunks(hidden, weight, bias):
            here, place = chunk.places(targets)
            # The same rounded logit that the normaliser counts: where p is near 1, the two roundings must cancel.
            picked = torch.where(here, chunk.logits.gather(1, place[:, None])[:, 0], picked)
            top = torch.maximum(chunk.logits.amax(-1), normaliser)
            mass = chunk.logits.sub_(top[:, None]).exp_().sum(-1)
            normaliser = top + torch.log(mass + torch.exp(normaliser - top))
        ctx.save_for_backward(hidden, weight, bias, targets, normaliser)
        return picked - normaliser

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        """d logp / d logits = onehot(target) - softmax(logits), chunk by chunk."""
        hidden, weight, bias, targets, normaliser = ctx.saved_tensors
        grad = grads[0].float()  # [N]
        grad_hidden = torch.zeros_like(hidden, dtype=torch.float32)
        grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        grad_bias = torch.empty_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for chunk in _chunks(hidden, weight, bias):
            delta = chunk.logits.sub_(normaliser[:, None]).exp_().mul_(-grad[:, None])  # [N, words]
            here, place = chunk.places(targets)
            delta.scatter_add_(1, place[:, None], (grad * here)[:, None])
            if grad_bias is not None:
                grad_bias[chunk.words] = delta.sum(0)
            narrow = delta if delta is chunk.narrow else chunk.narrow.copy_(delta)
            grad_hidden += narrow @ weight[chunk.words]
            if grad_weight is not None:
                if hidden.device.type == "mps":  # before torch 2.14 its `out` ignores where a slice begins, on macOS 14
                    grad_weight[chunk.words] = narrow.t() @ hidden
                else:
                    torch.mm(narrow.t(), hidden, out=grad_weight[chunk.words])
        return grad_hidden.to(hidden.dtype), grad_weight, grad_bias, None


def target_logps(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """Log-probability of each target: hidden [N, H], weight [V, H], bias [V], targets [N] -> [N], fp32, nats."""
    logps: Tensor = cast(Any, _TargetLogps).apply(hidden, weight, bias, targets)
    return logps


def token_logps(model: PackedModel, row: PackedRow) -> Tensor:
    """Log-probability of each target of `row` under `model`: [N], fp32, in nats."""
    hidden = model.hidden(row.input_ids, row.position_ids, row.layout)
    states = states_at(hidden, row.predict_at[row.distinct])  # [M, H]
    values = target_logps(states, model.head.weight, model.head.bias, row.targets[row.distinct])  # [M]
    return values.index_select(0, row.same_as)


def states_at(hidden: Tensor, places: Tensor) -> Tensor:
    """Hidden states [T, H] at `places` [N]: [N, H]. A state may be asked for many times.

    Its gradients are added up in a fixed order; those of an indexed tensor are added by several threads at once.
    """
    return embedding(places, hidden)


def sum_by_sequence(token_values: Tensor, row: PackedRow) -> Tensor:
    """Sum [N] token values into their [S] sequences."""
    return token_values.new_zeros(row.num_sequences).index_add(0, row.owner, token_values)


def counted_logps(token_values: Tensor, row: PackedRow) -> Tensor:
    """[N] log-probabilities of targets -> of each response, [S], over the tokens that count: all, unless said.

    Over all of them it is log pi(y|x) of Rafailov et al. 2023.
    """
    return sum_by_sequence(token_values * row.counts, row)


def logps(model: PackedModel, row: PackedRow) -> Tensor:
    """`counted_logps` of each response of `row` under `model`: [S], fp32, in nats."""
    return counted_logps(token_logps(model, row), row)
