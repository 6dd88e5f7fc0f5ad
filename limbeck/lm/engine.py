"""The sampling engine's loop: admit prompts, compute a step, choose tokens, retire what has finished.

Continuous batching: a step computes one token of every sample that is being written; a slot whose sample ends is taken
again. Prompts are prefilled several at a time, without pads, once for all samples of a prompt; the last token of a
prompt is the first that a sample's steps read. How rows are computed is a `Runner`'s business, which token follows from
logits that of choosing.py.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck import seeds
from limbeck.errors import ModelError
from limbeck.lm.choosing import Sampling, choose
from limbeck.lm.guided import Grammar, Guide, guide_for
from limbeck.lm.load import LanguageModel
from limbeck.lm.runner import Prefill
from limbeck.lm.runners import kernels_for, prompt_rows, runner_for, step_rows
from limbeck.lm.samples import PromptIds, Sample, Tally
from limbeck.records import FinishReason

# New samples wait until one in so many slots is free, so that several prompts are prefilled together.
_SLOTS_A_FREE_ONE = 16
# Tasks that arrive later may be longer than those the cache is made for, by one in so many tokens.
_LATER_ARE_LONGER = 4
_NO_CHARACTER = "\ufffd"  # what bytes that are no whole character are decoded to


class Task(NamedTuple):
    """Samples of one prompt that begin together."""

    prompt: PromptIds
    indices: tuple[int, ...]
    most: int


@dataclass
class _Slot:
    """A sample being written; `length`: positions that its cache holds; `seen`: tokens whose repetition costs;
    `grammar`: what it may still become.
    """

    task: Task
    sample_index: int
    rng: random.Random
    length: int
    seen: set[int]
    grammar: Grammar | None
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The token that the next step reads."""
        return self.ids[-1] if self.ids else self.task.prompt.ids[-1]


class Engine:
    """One run over waiting tasks, and those that arrive meanwhile, with a fixed number of slots.

    `arrive`: asked before every step for tasks of at most so many tokens, prompt and reply.
    """

    def __init__(
        self,
        model: LanguageModel,
        sampling: Sampling,
        slots: int,
        waiting: deque[Task],
        tally: Tally,
        arrive: Callable[[int], deque[Task]] | None,
    ) -> None:
        self.model, self.sampling, self.slots, self.waiting, self.tally = model, sampling, slots, waiting, tally
        self.arrive = arrive
        self.stops = frozenset() if sampling.ignore_end_of_turn else model.chat.stop_tokens
        self.tail = max((len(stop.encode()) + 4 for stop in sampling.stop), default=0)  # tokens that can hold a stop
        self.kernels = kernels_for(model)
        self.decode_rows = step_rows(model, sampling, slots)
        self.prefill_rows = prompt_rows(model, sampling)
        longest = max(len(task.prompt.ids) + task.most for task in waiting)
        self.capacity = longest + (longest // _LATER_ARE_LONGER if arrive else 0)
        self.runner = runner_for(model, sampling, self.decode_rows.usual, self.capacity)
        self.guide: Guide | None = None  # made for the first prompt that has a schema
        self.active: list[_Slot] = []  # place in this list = slot of the cache

    def run(self) -> Iterator[Sample]:
        """Yield samples as they finish."""
        while self._anything_to_do():
            with torch.inference_mode():  # never while the caller has its turn
                self._admit()
                self._step()
                finished = self._retire()
            yield from finished

    def _anything_to_do(self) -> bool:
        if self.arrive:
            self.waiting.extend(self.arrive(self.capacity))
        return bool(self.waiting or self.active)

    def _admit(self) -> None:
        """Prefill waiting prompts whose samples fit the free slots, once enough are free to be worth it."""
        free = self.slots - len(self.active)
        if self.active and free < max(self.slots // _SLOTS_A_FREE_ONE, 1):
            return
        begun: list[Prefill] = []
        while self.waiting and len(self.waiting[0].indices) <= self.slots - len(self.active):
            task = self.waiting.popleft()
            before, first = task.prompt.ids[:-1], len(self.active)
            seen = set(task.prompt.ids) if self.sampling.repetition_penalty != 1 else set()
            for index in task.indices:
                rng = seeds.rng(self.sampling.seed, task.prompt.id, index)
                self.active.append(_Slot(task, index, rng, len(before), set(seen), self._grammar(task.prompt)))
            if before:
                begun.append(Prefill(before, tuple(range(first, len(self.active)))))
        if begun:
            self._count(*self.runner.prefill(begun, self.prefill_rows))

    def _step(self) -> None:
        """One token for every active sample."""
        rows = self.decode_rows.at_least(len(self.active))
        ids, positions = [slot.last for slot in self.active], [slot.length for slot in self.active]
        logits = self.runner.decode(ids, positions, rows)[: len(self.active)]
        rngs, allowed = [slot.rng for slot in self.active], self._allowed()
        chosen = choose(logits, rngs, self.sampling, self.kernels, self._seen(), allowed)
        for slot, token, logp in zip(self.active, chosen.tokens, chosen.logps, strict=True):
            if token < 0 or not isfinite(logp):
                raise ModelError(f"{self.model.name} gives logits that are no numbers, on prompt {slot.task.prompt.id}")
            if slot.grammar is not None and not slot.grammar.consume_token(token):
                why = slot.grammar.get_error()
                raise ModelError(f"{self.model.name} left the schema of prompt {slot.task.prompt.id}: {why}")
            slot.ids.append(token)
            slot.logps.append(logp)
            slot.seen.add(token)
            slot.length += 1
        self._count(rows, len(self.active))
        self.tally.steps += 1

    def _grammar(self, prompt: PromptIds) -> Grammar | None:
        if prompt.schema is None:
            return None
        self.guide = self.guide or guide_for(self.model)
        return self.guide.begin(prompt.schema)

    def _allowed(self) -> Tensor | None:
        """What the grammars of the active samples allow; on a GPU this runs beside the step's own work."""
        grammars = [slot.grammar for slot in self.active]
        return self.guide.allowed(grammars) if self.guide and any(grammars) else None

    def _count(self, computed: int, useful: int) -> None:
        self.tally.computed_rows += computed
        self.tally.useful_rows += useful

    def _seen(self) -> list[Tensor]:
        if self.sampling.repetition_penalty == 1:
            return []
        return [torch.tensor(list(slot.seen)) for slot in self.active]

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
            text = text[: _first_stop(text, self.sampling.stop)]
        return Sample(slot.task.prompt.id, slot.sample_index, tuple(slot.ids), tuple(slot.logps), reason, text)

    def _finish_reason(self, slot: _Slot) -> FinishReason | None:
        if slot.ids[-1] in self.stops:
            return "stop"
        if self._holds_stop(slot.ids):
            return "stop_string"
        return "length" if len(slot.ids) >= slot.task.most else None

    def _holds_stop(self, ids: Sequence[int]) -> bool:
        """Whether the text of these tokens holds a stop string; the last few are looked at first, which is cheaper.

        Their text may be otherwise than that of the same tokens within the whole, so the whole decides; where they
        begin inside a character, a byte-fallback tokenizer makes marks of the whole run of bytes, stop and all.
        """
        if not self.tail:
            return False
        last = self.model.chat.text(ids[-self.tail :])
        may = _NO_CHARACTER in last or _first_stop(last, self.sampling.stop) is not None
        return may and _first_stop(self.model.chat.text(ids), self.sampling.stop) is not None


def _first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first of the stop strings begins; None where there is none."""
    return min((text.index(stop) for stop in stops if stop in text), default=None)
