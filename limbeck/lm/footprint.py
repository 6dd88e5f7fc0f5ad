"""What a training step will hold in memory, from a model's configuration alone (`lm/memory.py` measures a loaded one).

Activations are those of networks of one layer and of two, with made-up weights; further layers are taken to keep as
much as the second one does.
"""

from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from limbeck.lm.lora import attach
from limbeck.lm.memory import Estimate, Head, Line, Saved, peaks_of, saved_by_tokens
from limbeck.lm.shape import Part, Shape, made_up
from limbeck.recipe.training import Optimisation

_WORDS = 8192  # of the networks that are measured: what autograd keeps does not depend on how many there are


@dataclass(frozen=True)
class Footprint:
    """Bytes that training holds: `saved` by autograd for tokens of a row, `trainable` weights of all `parameters`."""

    shape: Shape
    saved: Saved
    trainable: int
    added: int  # weights of adapters
    width: int  # bytes of a weight

    def estimate(self, tokens: int, free_bytes: int, *, reward: bool = False) -> Estimate:
        """At a micro-batch of so many tokens. `reward`: with a head of one word beside the embedding, and no other."""
        shape, full = self.shape, not self.added
        words = 1 if reward else shape.words
        other = words * shape.hidden - (0 if shape.tied else shape.head_weights) if reward else 0
        held = shape.parameters + self.added + other
        trained = self.trainable + (other if full else words * shape.hidden if reward else 0)
        copies = 0 if self.width == 4 else 4 * trained  # an fp32 weight is its own master
        fixed = self.width * held + copies + 12 * trained
        head = Head(self.width, words, shape.hidden, trained=full or reward, tied=shape.tied and not reward)
        peaks = peaks_of(fixed, self.saved, head, tokens)
        return Estimate(tokens, fixed, peaks.kept, peaks.recomputed, available_bytes=free_bytes)


def footprint_of(
    config: PretrainedConfig,
    shape: Shape,
    settings: Optimisation,
    num_responses: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Footprint:
    """Measure it, for rows with so many responses each.

    Raises:
        ModelError: where the recipe asks for adapters that the model cannot carry.
    """
    saved, trainable, added = [], [], []
    for layers in (1, 2):
        model = made_up(config, Part(layers, min(shape.words, _WORDS)), device, dtype)
        before = sum(parameter.numel() for parameter in model.network.parameters())
        attach(model, settings.lora, 0)
        parameters = list(model.network.parameters())
        added.append(sum(parameter.numel() for parameter in parameters) - before)
        trainable.append(sum(parameter.numel() for parameter in parameters if parameter.requires_grad))
        saved.append(saved_by_tokens(model, num_responses))
    adapters = _extended(added[0], added[1], shape.layers)
    full = settings.lora is None
    return Footprint(
        shape,
        _all_layers(saved[0], saved[1], shape.layers),
        trainable=shape.parameters if full else round(_extended(trainable[0], trainable[1], shape.layers)),
        added=round(adapters),
        width=dtype.itemsize,
    )


def _extended(one: float, two: float, layers: int) -> float:
    """A straight line through the values of one layer and of two."""
    return one + (layers - 1) * (two - one)


def _all_layers(one: Saved, two: Saved, layers: int) -> Saved:
    kept = Line(*(_extended(a, b, layers) for a, b in zip(one.kept, two.kept, strict=True)))
    if one.inputs is None or two.inputs is None:
        return Saved(kept, None, 0)
    inputs = Line(*(_extended(a, b, layers) for a, b in zip(one.inputs, two.inputs, strict=True)))
    return Saved(kept, inputs, layers)
