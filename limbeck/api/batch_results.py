"""What becomes of a batch that has ended: each line's answer kept and booked, or its call asked again."""

from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Generic

from limbeck.api import wire
from limbeck.api.answers import WORTH_ASKING_AGAIN, Answer, Failed
from limbeck.api.asking import LookedUp, OnAnswer, Payload
from limbeck.api.batch_book import Batch, BatchBook
from limbeck.api.batch_client import WITHOUT, BatchClient
from limbeck.api.batch_wire import BatchState, Line, read_line
from limbeck.api.budget import Budget, Purse
from limbeck.api.client import ChatRequest
from limbeck.api.reply_store import Cost, ReplyStore
from limbeck.errors import TeacherError

MOST_ASKED_AGAIN = 2  # of a request that a batch gave no answer to
_UNANSWERED = Failed(reason="server_error", detail="the batch came back without an answer to this request")
_NOT_REACHED = Failed(reason="timed_out", detail="the batch ended before the server came to this request")


@dataclass(frozen=True, slots=True)
class Batching(Generic[Payload]):
    """How calls go out in batches: the server, and the request that a payload makes. Limits of a file are OpenAI's.

    `forbidden`: what the server must take as it was asked, each with what to say where it does not.
    """

    client: BatchClient
    request: Callable[[Payload], ChatRequest]
    most_requests: int = 50_000
    most_bytes: int = 200_000_000
    adaptations: set[wire.Adaptation] = field(default_factory=set)
    forbidden: Mapping[wire.Adaptation, str] = field(default_factory=dict)


class Desk(Generic[Payload]):
    """Takes what comes back. `looked_up.answers` grows by it; `on_answer` hears of each answer to a call.

    `purse`: for what is sent now. A batch is settled at the price that it was sent at.
    """

    def __init__(
        self,
        looked_up: LookedUp[Payload],
        batching: Batching[Payload],
        store: ReplyStore,
        book: BatchBook,
        budget: Budget,
        on_answer: OnAnswer,
    ) -> None:
        self._answers, self._calls = looked_up
        self._batching, self._store, self._book, self._budget = batching, store, book, budget
        self.purse = Purse(store, budget)
        self._on_answer = on_answer
        self._asked_again: Counter[str] = Counter()

    def wanted(self, batch: Batch) -> list[str]:
        """The calls of this run that wait for a batch: none where another recipe sent it."""
        return [key for key in batch.attempts if self._is_wanted(key)]

    def take(self, key: str) -> None:
        """Another run has stored the answer to this call in the meantime."""
        answer = self._store.get(key)
        if answer is not None and self._is_wanted(key):
            self._answers[key] = answer
            self._on_answer(key, True)

    def drop(self, batch: Batch) -> bool:
        """Nothing of it was bought; False where another run has done something else with it."""
        with self._store.transaction():
            if self._book.step(batch, "dropped") is None:
                return False
            for attempt in batch.attempts.values():
                self.purse.settle(attempt, 0, 0, "")
        return True

    async def collect(self, batch: Batch, state: BatchState, sent_with: Set[wire.Adaptation]) -> list[str]:
        """Fetch what came of a batch, keep it, and return the keys that are to be asked again.

        `sent_with`: the adaptations that its requests were written with.

        Raises:
            TeacherError: the server refused a request for a reason that no other would survive, the others are kept; or
                it has the answers no longer, and the batch stays open.
        """
        lines, all_told = await self._lines(batch, state)
        purse = self._purse_of(batch)
        again: list[str] = []
        final: list[str] = []
        with self._store.transaction():  # a kill leaves all of it to the next run, or nothing
            for key, attempt in batch.attempts.items():
                line = lines.get(key)
                answer = _book(purse, attempt, line, all_told, self._store.booked(attempt))
                wanted = self._is_wanted(key)
                why = self._why_final(batch, line, sent_with) if wanted else None
                if why is not None:
                    final.append(why)
                elif wanted and self._goes_again(key, line, answer, sent_with):
                    again.append(key)
                elif line is None or not line.final:
                    self._keep(key, answer)
            self._book.step(batch, "done")
        if final:
            raise TeacherError(final[0])
        return again

    async def _lines(self, batch: Batch, state: BatchState) -> tuple[dict[str, Line], bool]:
        """What the server says by key, and whether that is all: what it says nothing of was then never carried out."""
        client = self._batching.client
        lines: dict[str, Line] = {}
        gone = False
        for file_id in state.files:
            contents = await client.lines(file_id)
            if contents is None and self.wanted(batch):
                raise TeacherError(
                    f"{client.base_url} no longer has the file {file_id} with answers of the batch {batch.id} (404), "
                    f"which may have been paid for, so nothing is asked again; {WITHOUT}"
                )
            gone = gone or contents is None
            for content in contents or ():
                line = read_line(content, client.secret)
                if line is not None and line.key in batch.attempts:
                    lines.setdefault(line.key, line)
        return lines, not gone and state.status != "completed" and len(lines) >= state.done

    def _purse_of(self, batch: Batch) -> Purse:
        if batch.price is None or batch.price == self._budget.price:
            return self.purse
        return Purse(self._store, replace(self._budget, price=batch.price))

    def _keep(self, key: str, answer: Answer) -> None:
        self._store.finish(key, answer)
        if self._is_wanted(key):
            self._answers[key] = self._store.get(key) or answer
            self._on_answer(key, False)

    def _why_final(self, batch: Batch, line: Line | None, sent_with: Set[wire.Adaptation]) -> str | None:
        """Why no other request would survive what this one met; None where that is not so."""
        if line is None:
            return None
        if line.final:
            said = f"{line.status}: {line.error.message}"
            return f"{self._batching.client.base_url} refused the requests of the batch {batch.id} ({said})"
        adaptation = self._adaptation(line, sent_with)
        return None if adaptation is None else self._batching.forbidden.get(adaptation)

    def _adaptation(self, line: Line, sent_with: Set[wire.Adaptation]) -> wire.Adaptation | None:
        """What would make the server take a request that it refused for a parameter: each is left out once."""
        if line.status not in (400, 422):
            return None
        sent = wire.adapt(self._batching.request(self._calls[line.key].payload).body(), sent_with)
        return wire.find_adaptation(sent, line.error)

    def _goes_again(self, key: str, line: Line | None, answer: Answer, sent_with: Set[wire.Adaptation]) -> bool:
        adaptation = None if line is None else self._adaptation(line, sent_with)
        if adaptation is not None:
            self._batching.adaptations.add(adaptation)
            return True
        if not (isinstance(answer, Failed) and answer.reason in WORTH_ASKING_AGAIN):
            return False
        self._asked_again[key] += 1
        return self._asked_again[key] <= MOST_ASKED_AGAIN

    def _is_wanted(self, key: str) -> bool:
        return key in self._calls and key not in self._answers


def _book(purse: Purse, attempt: int, line: Line | None, all_told: bool, worst: Cost) -> Answer:
    """Settle one request by what it cost: a line without a completion is free.

    A count that is missing keeps its side's worst case.
    """
    if line is None and not all_told:
        purse.give_up(attempt)  # it may have been answered, and paid for
        return _UNANSWERED
    if line is None:
        purse.settle(attempt, 0, 0, "")
        return _NOT_REACHED
    answer = line.answer
    if not line.completed:
        purse.settle(attempt, 0, 0, line.raw)
    elif answer.tokens_in + answer.tokens_out:
        tokens_out = answer.tokens_out or (worst.tokens_out if answer.text else 0)
        purse.settle(attempt, answer.tokens_in or worst.tokens_in, tokens_out, line.raw)
    else:
        purse.give_up(attempt, line.raw)
    return answer
