"""Low-rank adapters (LoRA, Hu et al. 2021) by way of peft: the weights rest, two thin matrices beside each layer learn.

Adapters lie inside the network, so that the engine, the masters and the checkpoints need not know of them: what they
see is a network of which few weights can be trained. B is 0 at first, so W + (alpha / rank) B A is W, and a policy
equals its reference to the bit, row for row. What is saved is the sum, an ordinary model; the adapters alone lie beside
it.

Importing this module imports neither torch nor peft, so that a recipe can be checked without waiting for either.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck import seeds
from limbeck.console import say
from limbeck.errors import ModelError, RecipeError
from limbeck.recipe import Recipe
from limbeck.recipe.training import ALL_LINEAR, Lora
from limbeck.store import atomic_folder, disk_errors

if TYPE_CHECKING:
    from peft import LoraModel

    from limbeck.lm.packed_model import PackedModel

_ADAPTER = "default"  # peft's own name for an adapter that is the only one


def check_installed(recipe: Recipe) -> None:
    """See that peft is there if the recipe asks for adapters.

    Raises:
        RecipeError: naming the section that asks, and what to install.
    """
    for section, settings in recipe.trainings():
        if settings.lora is not None and importlib.util.find_spec("peft") is None:
            raise RecipeError(f"{section}.lora needs the library 'peft': pip install 'limbeck[lora]'")


@dataclass(frozen=True)
class Adapters:
    """Adapters inside a model's network: the only weights of it that can be trained."""

    model: "PackedModel"
    tuner: "LoraModel"
    seed: int

    def save(self, folder: Path) -> None:
        """Write a folder that `PeftModel.from_pretrained` opens on top of the base model, whole or not at all.

        It does not name the base: a path is another on each machine, and equal runs should leave equal files.
        """
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        found = get_peft_model_state_dict(self.model.network, adapter_name=_ADAPTER, save_embedding_layers=False)
        weights = {f"base_model.model.{name}": weight.contiguous() for name, weight in found.items()}  # as PeftModel's
        with atomic_folder(folder) as temporary, disk_errors(folder):
            save_file(weights, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
            self.tuner.peft_config[_ADAPTER].save_pretrained(str(temporary))

    def merge(self) -> None:
        """Add every adapter to its weight, in fp32, and take it out: an ordinary network is left.

        By hand: in bf16, peft rounds the product and the sum, both to the nearest, and much of a small update is lost.
        """
        import torch
        from peft.tuners.lora import Linear

        from limbeck.lm.rounding import stochastic_bf16

        generator = torch.Generator().manual_seed(seeds.derive(self.seed, "lora merge"))
        with torch.no_grad():
            for layer in self.model.network.modules():
                if isinstance(layer, Linear):
                    parts: Any = layer  # annotated as modules and tensors by turns
                    down, up = parts.lora_A[_ADAPTER].weight, parts.lora_B[_ADAPTER].weight  # [rank, in], [out, rank]
                    weight = parts.get_base_layer().weight  # [out, in]
                    total = weight.float() + parts.scaling[_ADAPTER] * (up.float() @ down.float())
                    weight.copy_(total if weight.dtype == torch.float32 else stochastic_bf16(total, generator))
        self.tuner.unload()


def attach(model: "PackedModel", settings: Lora | None, seed: int) -> Adapters | None:
    """Put adapters into the network and freeze everything else; nothing is done where `settings` is None.

    The same seed gives the same adapters. They have the network's dtype; the trainer keeps their fp32 masters.

    Raises:
        ModelError: where a target is no linear layer, or is the head or the embeddings.
    """
    if settings is None:
        return None
    import torch
    from peft import LoraConfig, LoraModel

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,  # a policy must equal its reference at the first step
        target_modules=_targets(model, settings.target_modules),
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seeds.derive(seed, "lora"))
        tuner = LoraModel(model.network, config, _ADAPTER)
    config.inference_mode = True  # for whoever opens what is saved
    config.target_modules = sorted(config.target_modules or ())  # a set would be saved in an order of chance
    counts = [(p.numel(), p.requires_grad) for p in model.network.parameters()]
    say(f"LoRA: {sum(n for n, trained in counts if trained):,} of {sum(n for n, _ in counts):,} weights are trained")
    return Adapters(model, tuner, seed)


def _targets(model: "PackedModel", asked: Sequence[str]) -> list[str]:
    """Names of linear layers, each checked to be one that can carry an adapter."""
    from torch import nn

    outside = (model.head, model.network.get_input_embeddings())  # the engine reads these weights as they are
    modules = dict(model.network.named_modules())
    inside = [name for name, module in modules.items() if isinstance(module, nn.Linear) and module not in outside]
    if not inside:
        raise ModelError(f"lora: {model.name} has no linear layer but its head; leave lora out to train all weights")
    if tuple(asked) == (ALL_LINEAR,):
        return inside
    known = ", ".join(sorted({name.rpartition(".")[2] for name in inside}))
    for name in asked:
        matched = [full for full in modules if f".{full}".endswith(f".{name}")]
        if any(modules[full] in outside for full in matched):
            raise ModelError(
                f"lora.target_modules: {name!r} is the head or the embeddings of {model.name}, which cannot carry "
                f"adapters; choose among {known}"
            )
        if not set(matched) & set(inside):
            raise ModelError(f"lora.target_modules: {model.name} has no linear layer {name!r}; it has {known}")
    return list(asked)
