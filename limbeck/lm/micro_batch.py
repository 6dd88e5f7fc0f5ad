"""How many tokens go through the model in one packed pass, where the recipe leaves that open (`"auto"`).

A GPU computes some thousand tokens of a small model in less time than it takes to launch the kernels: wider passes are
fewer launches. A CPU gains nothing by them.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from limbeck.lm.free_memory import device_memory
from limbeck.lm.machine import release
from limbeck.lm.memory import Estimate, estimates_before_training, memory_told
from limbeck.lm.packed_model import PackedModel
from limbeck.lm.packing import Item
from limbeck.recipe.training import Optimisation

WIDTHS = (32_768, 16_384, 8_192)  # tokens, widest first; wider ones were not measured

Settings = TypeVar("Settings", bound=Optimisation)


def settled(settings: Settings, model: PackedModel, items: Sequence[Item], label: str) -> Settings:
    """The settings for training `model`, still without an optimizer, on `items`: on a GPU with a number of tokens.

    Raises:
        TrainingError: there is not even memory to see what a row takes.
    """
    if not _is_open(settings, model.device.type) or not items:
        return settings
    release()  # what an earlier stage has freed counts as free
    with memory_told(label, model.device):
        estimate = estimates_before_training(model, items, settings, device_memory(model.device).free)
    return settings.model_copy(update={"micro_batch_tokens": widest(settings, model.device.type, estimate)})


def widest(settings: Optimisation, device_type: str, estimate: Callable[[int], Estimate]) -> int:
    """The most tokens of `WIDTHS` whose step fits in memory, with activations kept unless the recipe has them computed
    again; on a CPU, and where none fits, what is usual. `estimate` is given the tokens.
    """
    if _is_open(settings, device_type):
        recompute = settings.gradient_checkpointing == "on"
        for tokens in WIDTHS:
            if estimate(tokens).fits(recompute):
                return tokens
    return settings.tokens_at_once


def scoring_tokens(settings: Optimisation, device: torch.device) -> int:
    """Most tokens of a pass that keeps no activations."""
    return WIDTHS[0] if _is_open(settings, device.type) else settings.tokens_at_once


def _is_open(settings: Optimisation, device_type: str) -> bool:
    return settings.micro_batch_tokens == "auto" and device_type == "cuda"
