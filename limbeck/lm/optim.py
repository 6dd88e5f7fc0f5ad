"""Weights under training: compute in the model's dtype, masters, gradients and AdamW in fp32.

All weights live in two flat fp32 buffers (matrices, which decay, and the rest, which does not), so that the gradient
norm, the update and a checkpoint are each one pass. Gradients are added up in fp32 as backward produces them: small
updates are not rounded away in bf16, and micro-batches add up as one batch would. Weights that the network computes
with in fp32 are the masters themselves, not copies of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.lm.rounding import stochastic_bf16


@dataclass
class _Place:
    """A parameter, its masters and its gradients: views of the flat buffers, shaped as the parameter is.

    `filled`: whether `grad` holds anything of this step. The first gradient of a step is written, not added: nobody has
    to set the buffer to zero.
    """

    parameter: nn.Parameter
    master: Tensor
    grad: Tensor
    filled: bool = False

    def catch(self, weight: Tensor) -> None:
        """Take the gradient that backward has just made, and free it."""
        if weight.grad is None:
            return
        if self.filled:
            self.grad.add_(weight.grad)
        else:
            self.grad.copy_(weight.grad)
        self.filled, weight.grad = True, None


@dataclass
class _Group:
    """Parameters of one decay setting; `master` and `grad` are flat, fp32, and hold them one after another."""

    places: list[_Place]
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
        decays = [weight_decay if group.places[0].parameter.dim() >= 2 else 0.0 for group in self._groups]
        self._adamw = torch.optim.AdamW(
            [{"params": [g.master], "weight_decay": d} for g, d in zip(self._groups, decays, strict=True)],
            lr=0.0,
            betas=betas,
            fused=True,
        )
        self._hooks = [place.parameter.register_post_accumulate_grad_hook(place.catch) for place in self._places()]

    def grad_norm(self) -> Tensor:
        """L2 norm of the gradients added up since the last step: a scalar, left where the gradients are."""
        self._complete()
        norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.grad) for g in self._groups]))
        return norm

    def step(self, learning_rate: float, scale: float) -> None:
        """Update the weights from `scale` times the gradients added up since the last step.

        Does not look whether they are finite: who calls has read `grad_norm` first.
        """
        self._complete()
        for group in self._groups:
            if scale != 1:
                group.grad.mul_(scale)
            group.master.grad = group.grad
        for settings in self._adamw.param_groups:
            settings["lr"] = learning_rate
        self._adamw.step()
        self.zero_grad()
        self._publish()

    def zero_grad(self) -> None:
        """Forget gradients."""
        for place in self._places():
            place.filled = False

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

    def stop(self) -> None:
        """Free gradients and moments: no step can follow, the weights are all there."""
        for hook in self._hooks:
            hook.remove()
        self._adamw.state.clear()
        for group in self._groups:
            group.master.grad, group.grad = None, group.grad.new_empty(0)
            for place in group.places:
                place.grad = group.grad

    def close(self) -> None:
        """Give the network back to ordinary autograd, its weights to themselves.

        bf16 weights are rounded from their masters by chance, the same each time: to the nearest, most of them would be
        what they were before a short DPO run, and most of what it learnt would be lost. What did not move stays.
        """
        self.stop()
        generator = torch.Generator().manual_seed(0)
        for place in self._places():
            if _shares(place):
                place.parameter.data = place.master.clone()
            elif place.parameter.dtype == torch.bfloat16:
                place.parameter.data.copy_(stochastic_bf16(place.master, generator))

    def _places(self) -> Iterator[_Place]:
        return (place for group in self._groups for place in group.places)

    def _complete(self) -> None:
        """A parameter that no loss of this step depended on has the gradient zero."""
        for place in self._places():
            if not place.filled:
                place.grad.zero_()
                place.filled = True

    def _publish(self) -> None:
        for place in self._places():
            if not _shares(place):
                place.parameter.data.copy_(place.master)


def _shares(place: _Place) -> bool:
    return place.parameter.data_ptr() == place.master.data_ptr()


def _flatten(parameters: list[nn.Parameter]) -> _Group:
    flat = torch.cat([parameter.detach().float().reshape(-1) for parameter in parameters])
    group = _Group([], nn.Parameter(flat), torch.zeros_like(flat))
    offset = 0
    for parameter in parameters:
        own = slice(offset, offset + parameter.numel())
        place = _Place(parameter, group.master.data[own].view_as(parameter), group.grad[own].view_as(parameter))
        if parameter.dtype == torch.float32:
            parameter.data = place.master
        group.places.append(place)
        offset = own.stop
    return group
