"""Activations computed again in backward instead of kept (Chen et al. 2016, "Training Deep Nets with Sublinear Memory
Cost"), without dropout and without a patched model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


def layers_of(network: nn.Module) -> list[Any]:
    """The layers whose activations can be computed again."""
    return [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]


@contextmanager
def recomputing(network: nn.Module) -> Iterator[None]:
    """While open, each layer keeps only its inputs, and is run again when backward comes to it.

    transformers' layers do so where they are in training mode. The engine trains without dropout, so only the layer's
    own flag is set, and only around its forward: neither it nor its children see it while they compute.
    """
    layers = layers_of(network)
    for layer in layers:
        layer.training = layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(_run_again_in_backward, layer)
    try:
        yield
    finally:
        for layer in layers:
            layer.training = layer.gradient_checkpointing = False
            del layer._gradient_checkpointing_func


def _run_again_in_backward(layer: nn.Module, forward: Any, *states: Any) -> Any:
    def quietly(*states: Any) -> Any:
        layer.training = False
        try:
            return forward(*states)
        finally:
            layer.training = True

    # No random number is drawn in a layer: there is no state to put back.
    return checkpoint(quietly, *states, use_reentrant=False, preserve_rng_state=False)
