"""A model of this machine that many callers await at once: what they ask for is written together, by one engine.

The engine runs in a thread of its own. What is asked while it runs joins at its next step, and a sample reaches its
caller when it is finished, not when all are. Whatever ends the thread reaches everyone who waits.
"""

import asyncio
import queue
import time
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from limbeck.lm.generate import PromptIds, Sample, Sampling, Tally, generate, wanted_slots, within_memory
from limbeck.lm.load import LanguageModel

# How long the first request waits for others: those of one run are asked for within a millisecond.
_GATHER_SECONDS = 0.02


class _StopError(Exception):
    """Raised inside the engine's loop, which knows no other way out, when nobody waits any more."""


class Writer:
    """Use as an async context manager; `write` may be awaited many times at once. `tally` counts what was computed.

    Leaving it ends what is being written within a step.
    """

    def __init__(self, model: LanguageModel, sampling: Sampling) -> None:
        self.tally = Tally()
        self._model, self._wanted = model, replace(sampling, slots=wanted_slots(model, sampling))
        self._sampling = self._wanted
        self._asked: queue.SimpleQueue[PromptIds | None] = queue.SimpleQueue()  # None: stop
        self._held: list[PromptIds] = []  # for the next cache: too long for this one
        self._waiting: dict[str, list[asyncio.Future[Sample]]] = {}
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = asyncio.ensure_future(asyncio.to_thread(self._run))
        self._thread.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asked.put(None)
        await asyncio.wait([self._thread])

    @property
    def slots(self) -> int:
        """Samples written at once, as far as memory allowed."""
        return self._sampling.slots

    async def write(self, prompt: PromptIds) -> Sample:
        """Sample 0 of `prompt`; who asks for the same id while it is being written gets the same sample.

        Raises:
            ModelError: where the engine cannot go on; whatever else ended it is raised as it was.
        """
        if self._failure is not None:
            raise self._failure
        future: asyncio.Future[Sample] = self._loop.create_future()
        others = self._waiting.setdefault(prompt.id, [])
        others.append(future)
        if len(others) == 1:
            self._asked.put(prompt)
        return await future

    def _deliver(self, sample: Sample) -> None:
        for future in self._waiting.pop(sample.prompt_id):
            if not future.done():  # it is where its caller was cancelled
                future.set_result(sample)

    def _ended(self, thread: "asyncio.Future[None]") -> None:
        self._failure = RuntimeError("this writer has ended") if thread.cancelled() else thread.exception()
        if self._failure is None:
            return
        for future in [future for futures in self._waiting.values() for future in futures if not future.done()]:
            future.set_exception(self._failure)

    def _run(self) -> None:
        """The thread."""
        with suppress(_StopError):
            while True:
                prompts = self._first()
                last = self._sampling.slots
                self._sampling = within_memory(self._model, prompts, self._wanted, last_slots=last)
                for sample in generate(self._model, prompts, self._sampling, self.tally, self._later):
                    self._loop.call_soon_threadsafe(self._deliver, sample)

    def _first(self) -> list[PromptIds]:
        """What is asked for while nothing is being written; waits for it."""
        prompts, self._held = self._held, []
        if not prompts:
            prompts.append(_not_the_end(self._asked.get()))
            time.sleep(_GATHER_SECONDS)
        return [*prompts, *self._come()]

    def _later(self, capacity: int) -> list[PromptIds]:
        """What is asked for while others are being written, as far as it fits; does not wait."""
        come = self._come()
        self._held += [prompt for prompt in come if self._tokens(prompt) > capacity]
        return [prompt for prompt in come if self._tokens(prompt) <= capacity]

    def _come(self) -> list[PromptIds]:
        come = []
        with suppress(queue.Empty):
            while True:
                come.append(_not_the_end(self._asked.get_nowait()))
        return come

    def _tokens(self, prompt: PromptIds) -> int:
        return len(prompt.ids) + (prompt.max_new_tokens or self._sampling.max_new_tokens)


def _not_the_end(prompt: PromptIds | None) -> PromptIds:
    if prompt is None:
        raise _StopError
    return prompt
