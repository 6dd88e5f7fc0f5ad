"""Which runner a model gets, and with how many rows: what is tried of a network is tried once while it is loaded."""

from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import nn

from limbeck.errors import ModelError
from limbeck.lm.choosing import Sampling
from limbeck.lm.fused_runner import FusedRunner, can_be_fused
from limbeck.lm.general_runner import GeneralRunner
from limbeck.lm.kernels import Kernels, kernels
from limbeck.lm.load import LanguageModel
from limbeck.lm.products import Int8Products, own_products
from limbeck.lm.row_counts import RowCounts
from limbeck.lm.runner import Runner


@dataclass
class _Found:
    """What is known of one network."""

    can_be_fused: bool | None = None
    counts: dict[tuple[str, int], RowCounts] = field(default_factory=dict)


_found: WeakKeyDictionary[nn.Module, _Found] = WeakKeyDictionary()


def kernels_for(model: LanguageModel) -> Kernels | None:
    """The compiled kernels, where there are any and the model lies on the CPU."""
    return kernels() if model.device.type == "cpu" else None


def runner_for(model: LanguageModel, sampling: Sampling, slots: int, capacity: int) -> Runner:
    """The fastest runner that computes what the model computes.

    Raises:
        ModelError: where weights of 8 bits are asked for and cannot be had.
    """
    rounded, compiled = rounds_weights(model, sampling), kernels_for(model)
    if compiled is None or not _can_be_fused(model, compiled):
        return GeneralRunner(model, slots, capacity)
    products = Int8Products(compiled, _linears(model.network)) if rounded else own_products
    return FusedRunner(model, compiled, products, slots, capacity)


def rounds_weights(model: LanguageModel, sampling: Sampling) -> bool:
    """Whether weights rounded to 8 bits are sampled with.

    Raises:
        ModelError: where they are asked for and cannot be had.
    """
    if sampling.weights == "own":
        return False
    compiled = kernels_for(model)
    can_be = compiled is not None and _can_be_fused(model, compiled) and can_round_weights(model.device.type)
    if sampling.weights == "int8" and not can_be:
        raise ModelError(
            f"{model.name} cannot be sampled with weights = 'int8': that takes a Llama-like model on a CPU with "
            "AVX-512 VNNI, and a C++ compiler; 'auto' does it where it can be done, 'own' works everywhere"
        )
    return can_be


def step_rows(model: LanguageModel, sampling: Sampling, slots: int) -> RowCounts:
    """Numbers of rows of a step."""
    return _counts(model, sampling, slots, model.network)


def prompt_rows(model: LanguageModel, sampling: Sampling) -> RowCounts:
    """Numbers of rows of a prefill, which does not come to the head."""
    return _counts(model, sampling, sampling.prefill_tokens, model.decoder)


def _counts(model: LanguageModel, sampling: Sampling, usual: int, network: nn.Module) -> RowCounts:
    if rounds_weights(model, sampling):
        return RowCounts([], usual)  # sums of integers are exact, whatever their order
    known = _found.setdefault(network, _Found()).counts
    key = (str(model.device), usual)
    if key not in known:
        known[key] = RowCounts(_linears(network), usual)
    return known[key]


def _can_be_fused(model: LanguageModel, compiled: Kernels) -> bool:
    known = _found.setdefault(model.network, _Found())
    if known.can_be_fused is None:
        known.can_be_fused = can_be_fused(model, compiled)
    return known.can_be_fused


def can_round_weights(device: str) -> bool:
    """Whether weights of 8 bits are of use on this machine: a compiler, and instructions for products of bytes.

    Without these torch's int8 product is a plain loop.
    """
    return device == "cpu" and torch.cpu._is_vnni_supported() and kernels() is not None


def _linears(network: nn.Module) -> list[nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]
