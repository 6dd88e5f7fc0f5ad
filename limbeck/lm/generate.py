"""Sampling: prompts in, finished samples out, as an iterator.

Continuous batching: a step computes one token of every sample that is being written; a slot whose sample ends is taken
again. Prompts are prefilled several at a time in packed rows, without pads, once for all samples of a prompt; the last
token of a prompt is the first that a sample's steps read. How rows are computed is a `Runner`'s business, which token
follows from logits that of choosing.py.

A sample depends on its prompt, its index and the seed. With one number of slots, its bits do not depend on what else is
asked for, nor in which order (docs/decisions/0011).
"""

import errno
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor, nn

from limbeck import seeds
from limbeck.console import say
from limbeck.errors import ModelError
from limbeck.lm.choosing import Sampling, choose
from limbeck.lm.free_memory import device_memory
from limbeck.lm.fused_runner import FusedRunner, can_be_fused
from limbeck.lm.general_runner import GeneralRunner
from limbeck.lm.kernels import kernels
from limbeck.lm.load import LanguageModel
from limbeck.lm.products import Int8Products, own_products
from limbeck.lm.row_counts import RowCounts
from limbeck.lm.runner import Prefill, Runner
from limbeck.records import FinishReason

__all__ = ["PromptIds", "Sample", "Sampling", "Tally", "generate", "slots_for"]

# New samples wait until this share of the slots is free, so that several prompts are prefilled together.
_FREE_SHARE = 16


@dataclass(frozen=True)
class PromptIds:
    """A prompt to be continued `num_samples` times; `id` names it and, with the seed, decides its random numbers.

    `max_new_tokens`: where it differs from the sampling's.
    """

    id: str
    ids: tuple[int, ...]
    num_samples: int = 1
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class Sample:
    """A finished sample: token ids (the stop token included), their log-probabilities in nats, and why it ended.

    `text`: without stop tokens, without the stop string and what follows it.
    """

    prompt_id: str
    sample_index: int
    ids: tuple[int, ...]
    logps: tuple[float, ...]
    finish_reason: FinishReason
    text: str


@dataclass
class Tally:
    """What was computed: rows of prefill and decoding, how many of them were of use; halvings of the slots."""

    computed_rows: int = 0
    useful_rows: int = 0
    steps: int = 0
    halvings: int = 0


class _Task(NamedTuple):
    """Samples of one prompt that begin together."""

    prompt: PromptIds
    indices: tuple[int, ...]
    most: int


@dataclass
class _Slot:
    """A sample being written; `length`: positions that its cache holds."""

    task: _Task
    sample_index: int
    rng: random.Random
    length: int
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The token that the next step reads."""
        return self.ids[-1] if self.ids else self.task.prompt.ids[-1]


def generate(
    model: LanguageModel, prompts: Sequence[PromptIds], sampling: Sampling, tally: Tally | None = None
) -> Iterator[Sample]:
    """Yield samples as they finish; those that may become longest begin first, so that the tail of the run is short.

    Where memory runs out the slots are halved, in a sentence, and what was in flight begins again.

    Raises:
        ModelError: where logits are not numbers, or memory is too small for a single sample.
    """
    tally = Tally() if tally is None else tally
    done: set[tuple[str, int]] = set()
    slots = sampling.slots
    while tasks := _tasks(prompts, sampling, slots, done):
        try:
            for sample in _Engine(model, sampling, slots, tasks, tally).run():
                done.add((sample.prompt_id, sample.sample_index))
                yield sample
        except (RuntimeError, MemoryError, OSError) as error:
            if not _is_out_of_memory(error):
                raise
            if slots == 1:
                raise ModelError(f"memory is too small to write a single sample with {model.name}") from error
            slots //= 2
            tally.halvings += 1
            say(f"memory ran out while sampling; going on with {slots} samples at once", "yellow")


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # On a CPU, torch has no error class of its own for it.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _tasks(prompts: Sequence[PromptIds], sampling: Sampling, slots: int, done: set[tuple[str, int]]) -> deque[_Task]:
    """What is still to be written, in the order in which it begins; no task has more samples than there are slots."""
    tasks = []
    for prompt in prompts:
        most = sampling.max_new_tokens if prompt.max_new_tokens is None else prompt.max_new_tokens
        left = [index for index in range(prompt.num_samples) if (prompt.id, index) not in done]
        tasks += [_Task(prompt, tuple(left[n : n + slots]), most) for n in range(0, len(left), slots)]
    return deque(sorted(tasks, key=lambda task: (-task.most, -len(task.prompt.ids), task.prompt.id)))


class _Engine:
    def __init__(
        self, model: LanguageModel, sampling: Sampling, slots: int, waiting: deque[_Task], tally: Tally
    ) -> None:
        self.model, self.sampling, self.slots, self.waiting, self.tally = model, sampling, slots, waiting, tally
        self.stops = frozenset() if sampling.ignore_end_of_turn else model.chat.stop_tokens
        self.tail = max((len(stop.encode()) + 4 for stop in sampling.stop), default=0)  # tokens that can hold a stop
        self.kernels = kernels() if model.device.type == "cpu" else None
        capacity = max(len(task.prompt.ids) + task.most for task in waiting)
        self.runner = _runner(model, sampling, slots, capacity)
        # Sums of integers are exact, whatever their order. A prefill does not come to the head.
        weights = [module.weight for module in _linears(model.network)] if sampling.weights == "own" else []
        self.decode_rows = RowCounts(weights, slots)
        own = weights and [module.weight for module in _linears(model.decoder)]
        self.prefill_rows = RowCounts(own, sampling.prefill_tokens)
        self.active: list[_Slot] = []  # place in this list = slot of the cache

    def run(self) -> Iterator[Sample]:
        while self.waiting or self.active:
            with torch.inference_mode():  # never while the caller has its turn
                self._admit()
                self._step()
                finished = self._retire()
            yield from finished

    def _admit(self) -> None:
        """Prefill waiting prompts whose samples fit the free slots, once enough are free to be worth it."""
        free = self.slots - len(self.active)
        if self.active and free < max(self.slots // _FREE_SHARE, 1):
            return
        begun: list[Prefill] = []
        tokens = 0
        while self.waiting and len(self.waiting[0].indices) <= self.slots - len(self.active):
            length = len(self.waiting[0].prompt.ids) - 1
            if tokens and tokens + length > self.sampling.prefill_tokens:
                break
            task = self.waiting.popleft()
            first = len(self.active)
            for index in task.indices:
                rng = seeds.rng(self.sampling.seed, task.prompt.id, index)
                self.active.append(_Slot(task, index, rng, length))
            if length:
                begun.append(Prefill(task.prompt.ids[:-1], tuple(range(first, len(self.active)))))
                tokens += length
        if begun:
            self._count(*self.runner.prefill(begun, self.prefill_rows.at_least))

    def _step(self) -> None:
        """One token for every active sample."""
        rows = self.decode_rows.at_least(len(self.active))
        ids, positions = [slot.last for slot in self.active], [slot.length for slot in self.active]
        logits = self.runner.decode(ids, positions, rows)[: len(self.active)]
        chosen = choose(logits, [slot.rng for slot in self.active], self.sampling, self.kernels, self._seen())
        for slot, token, logp in zip(self.active, chosen.tokens, chosen.logps, strict=True):
            if token < 0 or not isfinite(logp):
                raise ModelError(f"{self.model.name} gives logits that are no numbers, on prompt {slot.task.prompt.id}")
            slot.ids.append(token)
            slot.logps.append(logp)
            slot.length += 1
        self._count(rows, len(self.active))
        self.tally.steps += 1

    def _count(self, computed: int, useful: int) -> None:
        self.tally.computed_rows += computed
        self.tally.useful_rows += useful

    def _seen(self) -> list[Tensor]:
        if self.sampling.repetition_penalty == 1:
            return []
        return [torch.tensor(sorted({*slot.task.prompt.ids, *slot.ids})) for slot in self.active]

    def _retire(self) -> list[Sample]:
        finished: list[Sample] = []
        place = 0
        while place < len(self.active):
            sample = self._finished(self.active[place])
            if sample is None:
                place += 1
                continue
            finished.append(sample)
            self.runner.release(place)
            last = self.active.pop()
            if place < len(self.active):  # the last slot moves into the gap: active slots stay side by side
                self.runner.move(len(self.active), place, last.length)
                self.active[place] = last
        return finished

    def _finished(self, slot: _Slot) -> Sample | None:
        reason = self._finish_reason(slot)
        if reason is None:
            return None
        text = self.model.chat.text(slot.ids)
        if reason == "stop_string":
            text = text[: min(text.index(stop) for stop in self.sampling.stop if stop in text)]
        return Sample(slot.task.prompt.id, slot.sample_index, tuple(slot.ids), tuple(slot.logps), reason, text)

    def _finish_reason(self, slot: _Slot) -> FinishReason | None:
        if slot.ids[-1] in self.stops:
            return "stop"
        if self.sampling.stop:
            tail = self.model.chat.text(slot.ids[-self.tail :])
            if any(stop in tail for stop in self.sampling.stop):
                return "stop_string"
        return "length" if len(slot.ids) >= slot.task.most else None


def _runner(model: LanguageModel, sampling: Sampling, slots: int, capacity: int) -> Runner:
    compiled = kernels() if model.device.type == "cpu" else None
    if compiled is not None and can_be_fused(model, compiled):
        products = own_products if sampling.weights == "own" else Int8Products(compiled, _linears(model.network))
        return FusedRunner(model, compiled, products, slots, capacity)
    if sampling.weights == "int8":
        raise ModelError(
            f"{model.name} cannot be sampled with int8 weights: that takes a Llama-like model on a CPU, and a compiler"
        )
    return GeneralRunner(model, slots, capacity)


def _linears(network: nn.Module) -> list[nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def slots_for(model: LanguageModel, longest_tokens: int, most: int, budget_bytes: int | None = None) -> int:
    """How many samples of `longest_tokens` may be written at once: at most `most`, at least one.

    `budget_bytes`: for their keys and values; half of what is free, where it is not given.
    """
    config = model.network.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token_bytes = 2 * config.num_hidden_layers * heads * size * model.head.weight.element_size()
    budget = device_memory(model.device).free // 2 if budget_bytes is None else budget_bytes
    return max(1, min(most, int(budget // (token_bytes * longest_tokens))))
