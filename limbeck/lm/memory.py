"""What a training step holds in memory, and whether its activations are kept or computed again (`lm/recompute.py`).

The estimate hard-codes no architecture: bytes that stay are those of the real tensors, and activation bytes a token
come from two small rows put through the model, counting what autograd saves. Both ways of training give the same
gradients; the choice changes time and memory only.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError, TrainingError
from limbeck.lm.free_memory import Memory, is_out_of_memory
from limbeck.lm.logps import CHUNK_WORDS, token_logps
from limbeck.lm.packed_model import PackedModel
from limbeck.lm.packing import Item, pack
from limbeck.lm.recompute import layers_of, recomputing
from limbeck.recipe.training import Optimisation

# What the estimate leaves out (a kernel's workspace, the pieces between freed blocks) has to fit in the rest.
USABLE_SHARE = 0.85
_PROBE_TOKENS = (64, 128)
_WHILE_TRAINING = 'a lower micro_batch_tokens, gradient_checkpointing = "on", LoRA'


@dataclass(frozen=True)
class Estimate:
    """What training needs at its peak with activations kept or computed again, and what there is.

    `fixed_bytes`: weights, masters, gradients and Adam's moments; part of both peaks. `recomputed_bytes` is None where
    the network has no layer that can. `available_bytes`: what is free, and what training holds already.
    """

    micro_batch_tokens: int
    fixed_bytes: int
    kept_bytes: int
    recomputed_bytes: int | None
    available_bytes: int

    def peak_bytes(self, recompute: bool) -> int:
        """The peak of one of the two ways."""
        return self.kept_bytes if not recompute or self.recomputed_bytes is None else self.recomputed_bytes

    def fits(self, recompute: bool) -> bool:
        """Whether the peak leaves the margin free."""
        return self.peak_bytes(recompute) <= USABLE_SHARE * self.available_bytes


class Line(NamedTuple):
    """Bytes as a linear function of tokens."""

    at_zero: float
    slope: float

    def at(self, tokens: int) -> float:
        """Bytes of so many tokens."""
        return self.at_zero + self.slope * tokens


class Saved(NamedTuple):
    """What autograd holds between forward and backward of a row: with activations kept, and with layers' inputs alone
    (None where the network has no layer whose activations can be computed again). `layers`: how many can.
    """

    kept: Line
    inputs: Line | None
    layers: int


class Head(NamedTuple):
    """The output head: bytes of a weight, its two sides, whether it is trained, whether it is the embedding too."""

    width: int
    words: int
    hidden: int
    trained: bool
    tied: bool


class Peaks(NamedTuple):
    """Bytes at the peak of a step with activations kept, and computed again."""

    kept: int
    recomputed: int | None


def estimate_memory(
    model: PackedModel,
    masters: Sequence[Tensor],
    items: Sequence[Item],
    settings: Optimisation,
    *,
    free_bytes: int,
    moments_held: bool,
) -> Estimate:
    """Estimate the memory of training on `items`.

    `masters`: the optimizer's fp32 weights; gradients and both of Adam's moments are as large, each. `free_bytes`: what
    the device has free now. `moments_held`: whether the moments are there already (they come with the first step, or
    with a checkpoint).
    """
    master_bytes = _distinct_bytes(masters)
    stays = _distinct_bytes([*model.network.parameters(), *model.network.buffers(), *masters])
    fixed = stays + 3 * master_bytes
    held = fixed if moments_held else fixed - 2 * master_bytes
    return _by_width(model, items, settings, fixed, free_bytes + held)(settings.tokens_at_once)


def estimates_before_training(
    model: PackedModel, items: Sequence[Item], settings: Optimisation, free_bytes: int
) -> Callable[[int], Estimate]:
    """The same by `micro_batch_tokens`, of a model that has no optimizer yet; the model is looked at once for all."""
    parameters = list(model.network.parameters())
    held = _distinct_bytes([*parameters, *model.network.buffers()])
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    masters = sum(4 * parameter.numel() for parameter in trained if parameter.dtype != torch.float32)
    fixed = held + masters + 3 * sum(4 * parameter.numel() for parameter in trained)
    return _by_width(model, items, settings, fixed, free_bytes + held)


def _by_width(
    model: PackedModel, items: Sequence[Item], settings: Optimisation, fixed: int, available: int
) -> Callable[[int], Estimate]:
    saved, head = saved_by_tokens(model, len(items[0].responses)), head_of(model)
    longest = max(item.num_tokens for item in items)

    def estimate(at_once: int) -> Estimate:
        tokens = most_tokens(longest, at_once, settings.batch_size)
        peaks = peaks_of(fixed, saved, head, tokens)
        return Estimate(tokens, fixed, peaks.kept, peaks.recomputed, available_bytes=available)

    return estimate


def peaks_of(fixed: int, saved: Saved, head: Head, tokens: int) -> Peaks:
    """The peak of a micro-batch of so many tokens, beside `fixed` bytes that are always there. Pure.

    It is in the head or, later, in a layer's backward: there its gradients are taken to be as large as what it kept,
    and where activations are computed again, its own are there as well.
    """
    moment, one_layer = _head_bytes(head, tokens), saved.kept.slope * tokens / max(saved.layers, 1)
    # A tied head's gradient waits for the embedding's, which is as large.
    tied = head.width * head.words * head.hidden if head.tied and head.trained else 0
    kept = fixed + round(saved.kept.at(tokens) + max(moment, one_layer, tied) + tied)
    if saved.inputs is None:
        return Peaks(kept, None)
    return Peaks(kept, fixed + round(saved.inputs.at(tokens) + max(moment, 2 * one_layer, tied) + tied))


def saved_by_tokens(model: PackedModel, num_responses: int) -> Saved:
    """Put two small rows through the model, kept and computed again, each item with so many responses."""
    layers = layers_of(model.network)
    kept = _saved_line(model, num_responses)
    if not layers:
        return Saved(kept, None, 0)
    with recomputing(model.network):
        return Saved(kept, _saved_line(model, num_responses), len(layers))


def head_of(model: PackedModel) -> Head:
    """What of the model's head decides the peak."""
    weight = model.head.weight
    tied = weight is model.network.get_input_embeddings().weight
    return Head(weight.element_size(), int(weight.shape[0]), int(weight.shape[1]), weight.requires_grad, tied)


def largest_micro_batch(items: Sequence[Item], settings: Optimisation) -> int:
    """Most tokens that a micro-batch of `items` can have."""
    longest = max(item.num_tokens for item in items)
    return most_tokens(longest, settings.tokens_at_once, settings.batch_size)


def most_tokens(longest: int, at_once: int, batch_size: int) -> int:
    """Most tokens of a micro-batch: the bound `at_once` or the whole step, or one item that is longer. Pure."""
    return max(longest, min(at_once, longest * batch_size))


def choose(estimate: Estimate, settings: Optimisation, model: PackedModel) -> bool:
    """Whether to compute activations again: as the recipe says, or only where they would not fit.

    Raises:
        ModelError: where the recipe asks for it and the network has no layer that can.
    """
    if settings.gradient_checkpointing == "on" and estimate.recomputed_bytes is None:
        raise ModelError(
            f"{model.name} has no layers whose activations can be computed again; leave out gradient_checkpointing"
        )
    if settings.gradient_checkpointing != "auto":
        return settings.gradient_checkpointing == "on"
    return not estimate.fits(False) and estimate.recomputed_bytes is not None


def in_words(label: str, estimate: Estimate, recompute: bool) -> str:
    """One line: what is needed, what is there, what is done with activations."""
    how = "computed again (gradient checkpointing)" if recompute else "kept"
    needed, there = amount(estimate.peak_bytes(recompute)), amount(estimate.available_bytes)
    tokens = f"{estimate.micro_batch_tokens:,} tokens a micro-batch"
    return f"{label}: about {needed} of {there} at {tokens}; activations are {how}"


def shortage(label: str, estimate: Estimate, recompute: bool, model: PackedModel) -> str | None:
    """A warning where even the chosen way may not fit, with what would help; None where it fits."""
    if estimate.fits(recompute):
        return None
    ways = ["a lower micro_batch_tokens"]
    if all(parameter.requires_grad for parameter in model.network.parameters()):
        ways.append("LoRA")
    if not recompute and estimate.recomputed_bytes is not None:
        ways.insert(0, "gradient_checkpointing")
    if model.head.weight.dtype == torch.float32:
        ways.append("bf16")
    return f"{label}: this may not fit in memory and be stopped by the system; what would help: {', '.join(ways)}"


@contextmanager
def memory_told(label: str, device: torch.device, advice: str = _WHILE_TRAINING) -> Iterator[None]:
    """Say what would help where memory runs out within the context: `advice`.

    Raises:
        TrainingError: it did.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"{label}: memory ran out; what would help: {advice}{_elsewhere(device)}. What was finished is kept, and "
            "the same command goes on"
        ) from error


def _elsewhere(device: torch.device) -> str:
    return "" if device.type == "cpu" else ', or the machine\'s own memory (model.device = "cpu")'


def refuse_impossible(network: nn.Module, memory: Memory, label: str) -> None:
    """Refuse before anything is allocated what cannot fit even into an empty machine.

    Raises:
        TrainingError: where weights, masters, gradients and moments alone are larger than all memory there is.
    """
    least = 0
    for parameter in network.parameters():
        held = parameter.element_size()
        if parameter.requires_grad:  # an fp32 weight may be its own master
            held += 12 if parameter.dtype == torch.float32 else 16
        least += held * parameter.numel()
    if least > memory.total:
        elsewhere = _elsewhere(next(network.parameters()).device)
        raise TrainingError(
            f"{label}: weights, gradients and optimizer alone take {amount(least)}, and there are "
            f"{amount(memory.total)} of memory; what would help: a smaller student, LoRA{elsewhere}"
        )


def _saved_line(model: PackedModel, num_responses: int) -> Line:
    few, many = _PROBE_TOKENS
    less, more = (saved_bytes(model, [probe_item(model, tokens, num_responses)]) for tokens in _PROBE_TOKENS)
    slope = (more - less) / (many - few)
    return Line(less - slope * few, slope)


def probe_item(model: PackedModel, num_tokens: int, num_responses: int) -> Item:
    """An item of so many computed tokens, half of them the prompt's; its responses begin with different ones."""
    words: int = model.network.config.get_text_config().vocab_size  # not the head's: a reward model's has one
    prompt = num_tokens // 2
    length = (num_tokens - prompt) // num_responses

    def ids(start: int, stop: int, shift: int = 0) -> tuple[int, ...]:
        # Spread over the vocabulary, so that no expert of a mixture gets them all.
        return tuple((place * 7919 + shift) % words for place in range(start, stop))

    responses = tuple((*ids(prompt, prompt + length, number), 0) for number in range(num_responses))
    return Item("probe", ids(0, prompt), responses)


def saved_bytes(model: PackedModel, items: Sequence[Item]) -> int:
    """Bytes that autograd holds between forward and backward of one packed row, beside the weights."""
    own = {_storage(tensor) for tensor in (*model.network.parameters(), *model.network.buffers())}
    found: dict[int, int] = {}

    def see(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            found[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor.detach()  # the tensor itself would hold its graph, and the graph it: never freed

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        values = token_logps(model, pack(items, model.device))
    del values  # the graph lives until here, so no storage's address was taken twice
    return sum(found.values())


def _head_bytes(head: Head, tokens: int) -> int:
    """What `lm/logps.py` holds for a moment: a chunk of logits, and the gradients of the head and of its inputs."""
    of_a_logit = 4 + (head.width if head.width < 4 else 0)  # in fp32, and beside that in the weights' own dtype
    logits = of_a_logit * tokens * min(CHUNK_WORDS, head.words)
    gradient = head.width * head.words * head.hidden if head.trained else 0
    return logits + gradient + 4 * tokens * head.hidden


def _distinct_bytes(tensors: Sequence[Tensor]) -> int:
    """Bytes of the tensors' storages, one that is shared counted once."""
    return sum({_storage(tensor): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def amount(number: float) -> str:
    """Bytes in words."""
    gibibytes = number / 2**30
    if gibibytes >= 10:
        return f"{gibibytes:.0f} GiB"
    return f"{gibibytes:.1f} GiB" if gibibytes >= 0.1 else f"{number / 2**20:.0f} MiB"
