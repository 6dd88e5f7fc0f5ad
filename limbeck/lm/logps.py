"""Log-probabilities of target tokens: the one place where hidden states meet the vocabulary.

linear + log-softmax + gather, in chunks of target tokens with a backward of its own, so that a [tokens, vocabulary]
tensor never exists beyond one chunk. Matrix products in the model's dtype, log-sum-exp and the head's gradient in fp32.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.lm.load import LanguageModel
from limbeck.lm.packing import PackedRow

CHUNK_TARGETS = 512


class _TargetLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        """hidden [N, H], weight [V, H], bias [V], targets [N] -> log p(target) [N], fp32."""
        logps = hidden.new_empty(hidden.shape[0], dtype=torch.float32)
        normaliser = torch.empty_like(logps)
        for at in range(0, hidden.shape[0], CHUNK_TARGETS):
            part = slice(at, at + CHUNK_TARGETS)
            logits = nn.functional.linear(hidden[part], weight, bias).float()  # [chunk, V]
            normaliser[part] = torch.logsumexp(logits, dim=-1)
            logps[part] = logits.gather(1, targets[part, None])[:, 0] - normaliser[part]
        ctx.save_for_backward(hidden, weight, bias, targets, normaliser)
        return logps

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        """d logp / d logits = onehot(target) - softmax(logits), chunk by chunk."""
        hidden, weight, bias, targets, normaliser = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None else None
        for at in range(0, hidden.shape[0], CHUNK_TARGETS):
            part = slice(at, at + CHUNK_TARGETS)
            grad = grads[0][part, None]
            delta = nn.functional.linear(hidden[part], weight, bias).float()  # [chunk, V], logits for now
            delta.sub_(normaliser[part, None]).exp_().mul_(-grad)
            delta.scatter_add_(1, targets[part, None], grad)
            if grad_bias is not None:
                grad_bias += delta.sum(0)
            narrow = delta.to(weight.dtype)
            grad_hidden[part] = narrow @ weight
            if grad_weight is not None:
                grad_weight += narrow.t() @ hidden[part]
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None or bias is None else grad_bias.to(bias.dtype),
            None,
        )


def target_logps(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """Log-probability of each target: hidden [N, H], weight [V, H], bias [V], targets [N] -> [N], fp32, nats."""
    logps: Tensor = cast(Any, _TargetLogps).apply(hidden, weight, bias, targets)
    return logps


def token_logps(model: LanguageModel, row: PackedRow) -> Tensor:
    """Log-probability of each target of `row` under `model`: [N], fp32, in nats."""
    hidden = model.hidden(row.input_ids, row.position_ids, row.layout)
    return target_logps(hidden[row.predict_at], model.head.weight, model.head.bias, row.targets)


def sum_by_sequence(token_values: Tensor, row: PackedRow) -> Tensor:
    """Sum [N] token values into their [S] sequences."""
    return token_values.new_zeros(row.num_sequences).index_add(0, row.owner, token_values)


def logps(model: LanguageModel, row: PackedRow) -> Tensor:
    """Summed log-probability of each response of `row`: [S], fp32, in nats (Rafailov et al. 2023, log pi(y|x))."""
    return sum_by_sequence(token_logps(model, row), row)
