"""Many calls through a provider's batch API, and the reply store: the slow path beside `asking`, at half the price.

What is under way is in the store (`batch_book`), so a run that was killed goes on waiting for what it had sent. As
many calls go out as the budget allows; what batches leave of their worst case makes room for the next.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple

from limbeck.api import wire
from limbeck.api.answers import Answer
from limbeck.api.asking import Call, LookedUp, OnAnswer, Payload, ignore, look_up
from limbeck.api.batch_book import Batch, BatchBook, Entry, State
from limbeck.api.batch_client import WITHOUT, NotCreatedError
from limbeck.api.batch_results import Batching, Desk
from limbeck.api.batch_wire import TOO_MANY_TOKENS, BatchState, encode, write_line
from limbeck.api.budget import UNLIMITED, Budget, Purse
from limbeck.api.reply_store import ReplyStore
from limbeck.console import clock
from limbeck.errors import BudgetError, TeacherError

OnNote = Callable[[str], None]
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS, _LOOK_GROWTH = 5.0, 60.0, 1.5
LONGEST_BATCH_SECONDS = 26 * 3600.0  # a provider ends a batch after 24 hours
_DEAD_AFTER_SECONDS = 60.0  # and the time a request may take: a run that is alive would have stepped on


def say_nothing(_note: str) -> None:
    """Take no notice of how batches stand."""


def ask_in_batches(
    calls: Sequence[Call[Payload]],
    batching: Batching[Payload],
    store: ReplyStore,
    *,
    on_answer: OnAnswer = ignore,
    on_note: OnNote = say_nothing,
    budget: Budget = UNLIMITED,
) -> dict[str, Answer]:
    """Return the answer of every call by key, as `ask_all` does; `on_note` hears how the batches stand.

    Raises:
        TeacherError: the server makes no batches, refuses the requests, or cannot be reached. Batches that were sent
            stay in the store, and the next run waits for them.
        BudgetError: the budget allows no further request; batches that were sent are waited for and stored first.
    """
    looked_up = look_up(calls, store, on_answer)
    if looked_up.missing:
        asyncio.run(_Run(looked_up, batching, store, Purse(store, budget), on_answer, on_note).go())
    return looked_up.answers


class _File(NamedTuple):
    batch: Batch
    content: bytes


class _Run(Generic[Payload]):
    """The calls of one run that no store has."""

    def __init__(
        self,
        looked_up: LookedUp[Payload],
        batching: Batching[Payload],
        store: ReplyStore,
        purse: Purse,
        on_answer: OnAnswer,
        on_note: OnNote,
    ) -> None:
        self._answers, self._calls = looked_up
        self._batching, self._client, self._purse, self._on_note = batching, batching.client, purse, on_note
        self._book = BatchBook(store, batching.client.now)
        self._desk = Desk(looked_up, batching, store, self._book, purse, on_answer)
        self._queue: deque[str] = deque()
        self._open: dict[str, Batch] = {}  # by mark
        self._states: dict[str, BatchState] = {}
        self._sent_with: dict[str, frozenset[wire.Adaptation]] = {}
        self._most_requests, self._one_at_a_time = batching.most_requests, False
        self._full = False  # until a batch ends there is no more room
        self._used_up: BudgetError | None = None

    async def go(self) -> None:
        """Take up what earlier runs sent, send the rest, and wait for all of it."""
        async with self._client:
            await self._take_up()
            waited_for = {key for batch in self._open.values() for key in batch.attempts}
            self._queue.extend(key for key in self._calls if key not in waited_for and key not in self._answers)
            wait_seconds = FIRST_LOOK_SECONDS
            while True:
                if await self._send_more():
                    wait_seconds = FIRST_LOOK_SECONDS
                if not self._open:
                    break
                self._note()
                await self._client.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * _LOOK_GROWTH, LONGEST_LOOK_SECONDS)
                for batch in list(self._open.values()):
                    await self._look(batch)
        if self._used_up is not None:
            raise self._used_up

    async def _take_up(self) -> None:
        """Bring what earlier runs left to an end, or to where it is waited for."""
        for left in self._book.unfinished(self._client.base_url):
            self._purse.take_over(len(left.attempts))
            batch = left
            if left.state != "open":  # what was only prepared was never sent; of the other the server knows
                batch_id = await self._find(left) if left.state == "creating" else None
                if batch_id is None:
                    self._desk.drop(left)
                    continue
                batch = self._step(left, "open", batch_id)
            self._open[batch.mark] = batch
            if not self._desk.wanted(batch):  # by another recipe: looked at once, to settle what it cost
                await self._look(batch)
                self._open.pop(batch.mark, None)

    async def _find(self, batch: Batch) -> str | None:
        """Look for a batch whose id was lost, until no request that makes it can be under way any more."""
        until = batch.stepped_at + self._client.timeout_seconds + _DEAD_AFTER_SECONDS
        while True:
            batch_id = await self._client.find(batch.mark)
            left = until - self._client.now()
            if batch_id is not None or left <= 0:
                return batch_id
            self._on_note("looking for a batch that was being sent when the last run ended")
            await self._client.sleep(min(left, LONGEST_LOOK_SECONDS))

    async def _send_more(self) -> bool:
        """Send what waits as far as the budget goes; True where something was sent."""
        sent = False
        while self._queue and self._used_up is None and not (self._open and (self._one_at_a_time or self._full)):
            try:
                file = self._prepare()
            except BudgetError as error:
                self._used_up = error  # what was sent is waited for
                break
            if file is None:
                break
            await self._send(file)
            sent = True
        return sent

    def _prepare(self) -> _File | None:
        """Book the next batch; None where there is no room for one now, which is an error where none can be made."""
        lines: list[bytes] = []
        entries: list[Entry] = []
        size = 0
        for key in self._queue:
            call = self._calls[key]
            body = wire.adapt(self._batching.request(call.payload).body(), self._batching.adaptations)
            content = encode(body)
            line = write_line(key, content)
            if lines and (size + len(line) > self._batching.most_bytes or len(lines) == self._most_requests):
                break
            most_out = int(body.get("max_tokens") or body.get("max_completion_tokens") or 0)
            lines.append(line)
            size += len(line)
            entries.append(Entry(self._purse.account(key, call.kind, call.request), len(content), most_out))
        batch = self._book.prepare(self._client.base_url, entries, self._purse)
        self._full = batch is None or len(batch.attempts) < len(entries)
        if batch is None:
            if not self._open:
                raise self._purse.used_up(entries[0].tokens_in, entries[0].tokens_out)
            return None
        for _ in batch.attempts:
            self._queue.popleft()
        return _File(batch, b"".join(lines[: len(batch.attempts)]))

    async def _send(self, file: _File) -> None:
        batch = file.batch
        try:
            file_id = await self._client.upload(file.content)
        except TeacherError:
            self._desk.drop(batch)
            raise
        creating = self._step(batch, "creating")

        def still_ours() -> None:
            self._step(creating, "creating")

        try:
            batch_id = await self._client.create(file_id, batch.mark, still_ours)
        except NotCreatedError:
            self._desk.drop(creating)
            raise
        self._open[batch.mark] = self._step(creating, "open", batch_id)
        self._sent_with[batch.mark] = frozenset(self._batching.adaptations)

    def _step(self, batch: Batch, state: State, batch_id: str | None = None) -> Batch:
        stepped = self._book.step(batch, state, batch_id)
        if stepped is None:
            raise TeacherError("another run has taken over a batch of this one: run the same command again")
        return stepped

    async def _look(self, batch: Batch) -> None:
        state = await self._client.look(str(batch.id))
        if state is None and not self._desk.wanted(batch):
            return
        if state is None:
            raise TeacherError(
                f"{self._client.base_url} does not know the batch {batch.id} (404), which was sent from here: use the "
                f"key of the account that sent it; {WITHOUT}"
            )
        self._states[batch.mark] = state
        self._full = self._full and not state.ended
        if state.status == "failed":
            self._failed(batch, state)
        elif state.ended:
            sent_with = self._sent_with.get(batch.mark, frozenset())
            self._queue.extend(await self._desk.collect(batch, state, sent_with))
            del self._open[batch.mark]
        elif self._client.now() - batch.stepped_at > LONGEST_BATCH_SECONDS and self._desk.wanted(batch):
            hours = LONGEST_BATCH_SECONDS / 3600
            raise TeacherError(f"the batch {batch.id} is still {state.status!r} after {hours:g} hours; {WITHOUT}")

    def _failed(self, batch: Batch, state: BatchState) -> None:
        """The server took none of it, and bills none of it."""
        del self._open[batch.mark]
        self._desk.drop(batch)
        wanted = self._desk.wanted(batch)
        if not wanted:
            return
        too_many = any(error.code == TOO_MANY_TOKENS for error in state.errors)
        if not too_many or (len(wanted) == 1 and not self._open):
            raise TeacherError(f"{self._client.base_url} took no request of the batch {batch.id}: {state.complaint()}")
        if not self._open:
            self._most_requests = (len(wanted) + 1) // 2
        self._one_at_a_time = True
        self._queue.extendleft(reversed(wanted))

    def _note(self) -> None:
        """Say how the batches stand: how many requests of them are done, and for how long they are under way."""
        states = [self._states.get(mark) for mark in self._open]
        done = sum(state.done for state in states if state)
        total = sum(len(batch.attempts) for batch in self._open.values())
        words = sorted({state.status for state in states if state}) or ["sent"]
        since = self._client.now() - min(batch.stepped_at for batch in self._open.values())
        name = f"batch {next(iter(self._open.values())).id}" if len(states) == 1 else f"{len(states)} batches"
        self._on_note(f"{name}: {', '.join(words)}, {done:,} of {total:,} answered, {clock(since)} since it was sent")
