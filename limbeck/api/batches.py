"""Many calls through a provider's batch API, and the reply store: the slow path beside `asking`, at half the price.

What is under way is in the store (`batch_book`), so a run that was killed goes on waiting for what it had sent. As
many calls go out as the budget allows; what batches leave of their worst case makes room for the next.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic

from limbeck.api import wire
from limbeck.api.answers import Answer
from limbeck.api.asking import Call, LookedUp, OnAnswer, Payload, ignore, look_up
from limbeck.api.batch_book import Batch, BatchBook, Entry, State
from limbeck.api.batch_client import WITHOUT, NotCreatedError
from limbeck.api.batch_results import Batching, Desk
from limbeck.api.batch_wire import LONGEST_BATCH_SECONDS, TOO_MANY_TOKENS, BatchState, write_line
from limbeck.api.budget import UNLIMITED, Budget
from limbeck.api.reply_store import ReplyStore
from limbeck.console import clock
from limbeck.errors import BudgetError, TeacherError

OnNote = Callable[[str], None]
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS, _LOOK_GROWTH = 5.0, 60.0, 1.5
_TAKEN_OVER = "another run has taken over a batch of this one: run the same command again"
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
        asyncio.run(_Run(looked_up, batching, store, budget, on_answer, on_note).go())
    return looked_up.answers


class _Run(Generic[Payload]):
    """The calls of one run that no store has."""

    def __init__(
        self,
        looked_up: LookedUp[Payload],
        batching: Batching[Payload],
        store: ReplyStore,
        budget: Budget,
        on_answer: OnAnswer,
        on_note: OnNote,
    ) -> None:
        self._answers, self._calls = looked_up
        self._batching, self._client, self._on_note = batching, batching.client, on_note
        self._store, self._budget = store, budget
        self._book = BatchBook(store, batching.client.now)
        self._desk = Desk(looked_up, batching, store, self._book, budget, on_answer)
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
            await self._take_up(self._book.unfinished(self._client.base_url))
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

    async def _take_up(self, others: Iterable[Batch], prepared_seconds: float = 0.0) -> None:
        """Bring what other runs sent to an end, or to where it is waited for; the queue is what then is left to ask.

        `prepared_seconds`: for so long after it was prepared a batch may yet be sent.
        """
        for other in others:
            batch = await self._open_or_end(other, prepared_seconds)
            if batch is None:
                continue
            self._open[batch.mark] = batch
            if not self._desk.wanted(batch):  # by another recipe: looked at once, to settle what it cost
                await self._look(batch)
                self._open.pop(batch.mark, None)
        self._fill()

    def _fill(self) -> None:
        """Have the queue hold what no batch will answer."""
        waited_for = {key for batch in self._open.values() for key in batch.attempts}
        self._queue = deque(key for key in self._calls if key not in waited_for and key not in self._answers)

    async def _open_or_end(self, batch: Batch, prepared_seconds: float) -> Batch | None:
        """The batch once its id is known; None where it came to its end, or was never made and is dropped.

        A batch whose id was lost is looked for until no request that makes it can be under way any more.
        """
        while batch.state in ("prepared", "creating"):
            alive_seconds = self._dead_after_seconds if batch.state == "creating" else prepared_seconds
            left = batch.stepped_at + alive_seconds - self._client.now()
            batch_id = await self._client.find(batch.mark) if batch.state == "creating" else None
            if batch_id is not None:
                self._book.step(batch, "open", batch_id)
            elif left <= 0:
                self._desk.drop(batch)
            else:
                self._on_note("looking for a batch that was being sent by another run")
                await self._client.sleep(min(left, LONGEST_LOOK_SECONDS))
            batch = self._book.read(batch)  # its own run may be alive, and have stepped on
        return batch if batch.state == "open" else None

    @property
    def _dead_after_seconds(self) -> float:
        return self._client.timeout_seconds + _DEAD_AFTER_SECONDS

    async def _send_more(self) -> bool:
        """Send what waits as far as the budget goes; True where something was sent."""
        sent = False
        while self._queue and self._used_up is None and not (self._open and (self._one_at_a_time or self._full)):
            lines, entries = self._write()
            try:
                file = self._book.prepare(self._client.base_url, entries, self._desk.purse, self._budget.price)
            except BudgetError as error:
                self._used_up = error  # what was sent is waited for
                break
            self._full = file.full
            for _ in range(file.seen):
                self._queue.popleft()
            if file.batch is not None:
                await self._send(file.batch, b"".join(lines[key] for key in file.batch.attempts))
                sent = True
            for key in file.done:
                self._desk.take(key)
            if file.elsewhere:
                await self._take_up(file.elsewhere, self._dead_after_seconds)
            elif not file.seen and not self._open:
                self._used_up = self._desk.purse.used_up(entries[0].tokens_in, entries[0].tokens_out)
        return sent

    def _write(self) -> tuple[dict[str, bytes], list[Entry]]:
        """Write the lines of the next file by key, up to the first that has no room in it or in the budget."""
        lines: dict[str, bytes] = {}
        entries: list[Entry] = []
        size, (tokens, nano_dollars), limits = 0, self._store.spent(), self._budget.limits()
        for key in self._queue:
            call = self._calls[key]
            body = wire.adapt(self._batching.request(call.payload).body(), self._batching.adaptations)
            content = wire.encode(body)
            line = write_line(key, content)
            if lines and (size + len(line) > self._batching.most_bytes or len(lines) == self._most_requests):
                break
            most_out = int(body.get("max_tokens") or body.get("max_completion_tokens") or 0)
            lines[key] = line
            size += len(line)
            entries.append(Entry(self._desk.purse.account(key, call.kind, call.request), len(content), most_out))
            worst = self._budget.cost(len(content), most_out)
            tokens, nano_dollars = tokens + worst.tokens, nano_dollars + worst.nano_dollars
            if tokens > (limits.tokens or tokens) or nano_dollars > (limits.nano_dollars or nano_dollars):
                break
        return lines, entries

    async def _send(self, batch: Batch, content: bytes) -> None:
        try:
            file_id = await self._client.upload(content)
        except TeacherError:
            self._desk.drop(batch)
            raise
        creating = self._step(batch, "creating")

        def still_ours() -> None:
            nonlocal creating
            creating = self._step(creating, "creating")

        try:
            batch_id = await self._client.create(file_id, batch.mark, still_ours)
        except NotCreatedError:
            self._desk.drop(creating)
            raise
        self._sent_with[batch.mark] = frozenset(self._batching.adaptations)
        opened = self._book.step(creating, "open", batch_id)
        if opened is not None:
            self._open[batch.mark] = opened
        elif self._book.read(batch).state == "done":  # another run found it in the list, and has its answers by now
            self._fill()
        else:
            raise TeacherError(_TAKEN_OVER)

    def _step(self, batch: Batch, state: State) -> Batch:
        stepped = self._book.step(batch, state)
        if stepped is None:
            raise TeacherError(_TAKEN_OVER)
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
