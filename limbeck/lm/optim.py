"""Weights under training: compute in the model's dtype, masters, gradients and AdamW in fp32.

All weights live in two flat fp32 buffers (matrices, which decay, and the rest, which does not), so that the gradient
norm, the update and a checkpoint are each one pass. Gradients are added up in fp32 as backward produces them: small
updates are not rounded away in bf16, and micro-batches add up as one batch would.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class _Group:
    """Parameters of one decay setting; `master` and `grad` are flat, fp32, and hold them one after another."""

    parameters: list[nn.Parameter]
    master: nn.Parameter
    grad: Tensor


class MasterAdamW:
    """AdamW (Loshchilov & Hutter 2019) on fp32 masters of a network's trainable weights."""

    def __init__(self, network: nn.Module, *, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        trainable = [p for p in network.parameters() if p.requires_grad]  # tied weights appear once
        self._groups = [
            _flatten(group)
            for group in ([p for p in trainable if p.dim() >= 2], [p for p in trainable if p.dim() < 2])
            if group
        ]
        decays = [weight_decay if group.parameters[0].dim() >= 2 else 0.0 for group in self._groups]
        self._adamw = torch.optim.AdamW(
            [{"params": [g.master], "weight_decay": d} for g, d in zip(self._groups, decays, strict=True)],
            lr=0.0,
            betas=betas,
            fused=True,
        )
        self._hooks = [hook for group in self._groups for hook in _catch_gradients(group)]

    def step(self, learning_rate: float, max_grad_norm: float) -> float:
        """Update the weights from the gradients added up since the last step; returns the norm before clipping.

        A norm that is not finite updates nothing and is returned as it is: the caller decides.
        """
        norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.grad) for g in self._groups])))
        if not norm < float("inf"):
            return norm
        for group in self._groups:
            if norm > max_grad_norm:
                group.grad.mul_(max_grad_norm / norm)
            group.master.grad = group.grad
        for settings in self._adamw.param_groups:
            settings["lr"] = learning_rate
        self._adamw.step()
        self.zero_grad()
        self._publish()
        return norm

    def zero_grad(self) -> None:
        """Forget gradients."""
        for group in self._groups:
            group.grad.zero_()

    def weights(self) -> list[Tensor]:
        """The fp32 masters (flat, one a group), not copied."""
        return [group.master.data for group in self._groups]

    def set_weights(self, weights: list[Tensor]) -> None:
        """Replace the masters, and with them the network's weights."""
        for group, values in zip(self._groups, weights, strict=True):
            group.master.data.copy_(values)
        self._publish()

    def state_dict(self) -> dict[str, object]:
        """Everything that the next step depends on."""
        return {"weights": self.weights(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore what `state_dict` gave."""
        weights, adamw = state["weights"], state["adamw"]
        if not isinstance(weights, list) or not isinstance(adamw, dict):
            raise TypeError("not a state of this optimizer")
        self.set_weights(weights)
        self._adamw.load_state_dict(adamw)

    def close(self) -> None:
        """Give the network back to ordinary autograd."""
        for hook in self._hooks:
            hook.remove()

    def _publish(self) -> None:
        with torch.no_grad():
            for group in self._groups:
                offset = 0
                for parameter in group.parameters:
                    view = group.master.data[offset : offset + parameter.numel()].view_as(parameter)
                    parameter.copy_(view)
                    offset += parameter.numel()


def _flatten(parameters: list[nn.Parameter]) -> _Group:
    flat = torch.cat([parameter.detach().float().reshape(-1) for parameter in parameters])
    return _Group(parameters, nn.Parameter(flat), torch.zeros_like(flat))


def _catch_gradients(group: _Group) -> list[torch.utils.hooks.RemovableHandle]:
    hooks = []
    offset = 0
    for parameter in group.parameters:
        target = group.grad[offset : offset + parameter.numel()].view_as(parameter)

        def catch(weight: Tensor, target: Tensor = target) -> None:
            if weight.grad is not None:
                target.add_(weight.grad)
                weight.grad = None

        hooks.append(parameter.register_post_accumulate_grad_hook(catch))
        offset += parameter.numel()
    return hooks
