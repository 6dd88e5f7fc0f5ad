"""What becomes of a batch that has ended: each line's answer kept and booked, or its call asked again."""

from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Generic

from limbeck.api import wire
from limbeck.api.answers import WORTH_ASKING_AGAIN, Answer, Failed
from limbeck.api.asking import LookedUp, OnAnswer, Payload
from limbeck.api.batch_book import Batch, BatchBook
from limbeck.api.batch_client import BatchClient
from limbeck.api.batch_wire import BatchState, Line, read_line
from limbeck.api.budget import Purse
from limbeck.api.client import ChatRequest
from limbeck.api.reply_store import ReplyStore
from limbeck.errors import TeacherError

MOST_ASKED_AGAIN = 2  # of a request that a batch gave no answer to
_UNANSWERED = Failed(reason="server_error", detail="the batch came back without an answer to this request")
_NOT_REACHED = Failed(reason="timed_out", detail="the batch ended before the server came to this request")


@dataclass(frozen=True, slots=True)
class Batching(Generic[Payload]):
    """How calls go out in batches: the server, and the request that a payload makes. Limits of a file are OpenAI's."""

    client: BatchClient
    request: Callable[[Payload], ChatRequest]
    most_requests: int = 50_000
    most_bytes: int = 200_000_000
    adaptations: set[wire.Adaptation] = field(default_factory=set)


class Desk(Generic[Payload]):
    """Takes what comes back. `looked_up.answers` grows by it; `on_answer` hears of each answer to a call."""

    def __init__(
        self,
        looked_up: LookedUp[Payload],
        batching: Batching[Payload],
        store: ReplyStore,
        book: BatchBook,
        purse: Purse,
        on_answer: OnAnswer,
    ) -> None:
        self._answers, self._calls = looked_up
        self._batching, self._store, self._book, self._purse = batching, store, book, purse
        self._on_answer = on_answer
        self._asked_again: Counter[str] = Counter()

    def wanted(self, batch: Batch) -> list[str]:
        """The calls of this run that wait for a batch: none where another recipe sent it."""
        return [key for key in batch.attempts if self._is_wanted(key)]

    def drop(self, batch: Batch) -> None:
        """Nothing of it was bought."""
        with self._store.transaction():
            if self._book.step(batch, "dropped") is not None:
                for attempt in batch.attempts.values():
                    self._purse.settle(attempt, 0, 0, "")

    async def collect(self, batch: Batch, state: BatchState, sent_with: Set[wire.Adaptation]) -> list[str]:
        """Fetch what came of a batch, keep it, and return the keys that are to be asked again.

        `sent_with`: the adaptations that its requests were written with.

        Raises:
            TeacherError: the server refused a request for a reason that no other would survive; the others are kept.
        """
        client = self._batching.client
        lines: dict[str, Line] = {}
        for file_id in state.files:
            for content in await client.lines(file_id):
                line = read_line(content, client.secret)
                if line is not None and line.key in batch.attempts:
                    lines.setdefault(line.key, line)
        again = []
        with self._store.transaction():  # a kill leaves all of it to the next run, or nothing
            for key, attempt in batch.attempts.items():
                line = lines.get(key)
                answer = self._book_line(attempt, line, state.status)
                if self._is_wanted(key) and self._goes_again(key, line, answer, sent_with):
                    again.append(key)
                elif line is None or not line.final:
                    self._keep(key, answer)
            self._book.step(batch, "done")
        refused = next((line for line in lines.values() if line.final and self._is_wanted(line.key)), None)
        if refused is not None:
            said = f"{refused.status}: {refused.error.message}"
            raise TeacherError(f"{client.base_url} refused the requests of the batch {batch.id} ({said})")
        return again

    def _book_line(self, attempt: int, line: Line | None, ended_as: str) -> Answer:
        """Settle one request by what it cost: a line without a completion is free."""
        if line is None and ended_as == "completed":
            self._purse.give_up(attempt)  # it may have been answered, and paid for
            return _UNANSWERED
        if line is None:
            self._purse.settle(attempt, 0, 0, "")
            return _NOT_REACHED
        answer = line.answer
        if line.completed and not answer.tokens_in + answer.tokens_out:
            self._purse.give_up(attempt, line.raw)  # it does not say: the worst case stands
        else:
            self._purse.settle(attempt, answer.tokens_in, answer.tokens_out, line.raw)
        return answer

    def _keep(self, key: str, answer: Answer) -> None:
        self._store.finish(key, answer)
        if self._is_wanted(key):
            self._answers[key] = self._store.get(key) or answer
            self._on_answer(key, False)

    def _goes_again(self, key: str, line: Line | None, answer: Answer, sent_with: Set[wire.Adaptation]) -> bool:
        if line is not None and line.final:
            return False
        if line is not None and line.status in (400, 422):
            # Without the parameter that the server names: each is left out once.
            sent = wire.adapt(self._batching.request(self._calls[key].payload).body(), sent_with)
            adaptation = wire.find_adaptation(sent, line.error)
            if adaptation is not None:
                self._batching.adaptations.add(adaptation)
                return True
        if not (isinstance(answer, Failed) and answer.reason in WORTH_ASKING_AGAIN):
            return False
        self._asked_again[key] += 1
        return self._asked_again[key] <= MOST_ASKED_AGAIN

    def _is_wanted(self, key: str) -> bool:
        return key in self._calls and key not in self._answers
