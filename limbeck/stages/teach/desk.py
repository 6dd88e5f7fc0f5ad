"""One teacher at its desk: requests in, parsed replies out. What does not parse is asked again, a counted few times."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from limbeck.api.answers import Failed
from limbeck.api.budget import UNLIMITED
from limbeck.api.json_replies import ParseFailure
from limbeck.api.reply_store import ReplyStore
from limbeck.console import meter
from limbeck.errors import UsedUpError
from limbeck.recipe.pairs import MadeKind
from limbeck.stages.teach.accepting import OUT_OF_BUDGET
from limbeck.stages.teach.spending import Cost
from limbeck.stages.teach.tally import Tally
from limbeck.teachers import Replied, Request, TakesBatches, Teacher, answered_before, ask
from limbeck.teachers.rendering import ask_again

TURN = 64  # rows: what a budget may end with nothing to show for, and enough to keep a server busy

Parsed = TypeVar("Parsed")
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Question(Generic[Parsed]):
    """A request, and how its reply is read."""

    request: Request
    parse: Callable[[str], Parsed | ParseFailure]


class Heard(NamedTuple, Generic[Parsed]):
    """What a reply was read as, and the key under which the store keeps it."""

    value: Parsed
    key: str


class Desk:
    """Asks `teacher` through the store. `role` names it in the manifest's tokens; `reasks` is the recipe's."""

    def __init__(self, teacher: Teacher, role: str, store: ReplyStore, tally: Tally, reasks: int) -> None:
        self.teacher, self.tally = teacher, tally
        self._role, self._store, self._reasks = role, store, reasks

    def in_turns(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        """Cut rows that want two requests each into those whose second is sent before the next ones' first: a budget
        that ends then leaves pairs, and not halves of pairs alone. All at once where there is no budget, and in
        batches, each of which may take a day.
        """
        teacher = self.teacher
        batched = isinstance(teacher, TakesBatches) and teacher.batching() is not None
        limits = teacher.budget.limits()
        turn = len(rows) if batched or limits == UNLIMITED.limits() else TURN
        return (rows[at : at + turn] for at in range(0, len(rows), max(turn, 1)))

    def ask(self, kind: MadeKind, questions: Sequence[Question[Parsed]], what: str) -> list[Heard[Parsed] | None]:
        """Return what was heard, in the order of the questions; None where there is nothing, which is tallied.

        A reply that does not parse is shown to the teacher with what was wrong, up to `reasks` times. Other failures
        (refused, filtered, truncated, no reply) are final: the same words would bring the same. Where the budget ends,
        what was answered is heard all the same.
        """
        heard: list[Heard[Parsed] | None] = [None] * len(questions)
        waiting = list(enumerate(questions))
        for attempt in range(self._reasks + 1):
            again: list[tuple[int, Question[Parsed]]] = []
            replies = self._replies(kind, [question.request for _, question in waiting], what)
            for (place, question), reply in zip(waiting, replies, strict=True):
                if reply is None:
                    self.tally.drop(kind, OUT_OF_BUDGET)
                    continue
                self.tally.reasks += attempt > 0
                value = self._read(kind, question, reply)
                if isinstance(value, ParseFailure) and attempt < self._reasks:
                    request = ask_again(question.request, reply.answer.text, value)
                    again.append((place, Question(request, question.parse)))
                elif isinstance(value, ParseFailure):
                    self.tally.drop(kind, f"parse: {value.reason}")
                elif value is not None:
                    heard[place] = Heard(value, reply.key)
                    self.tally.reasks_that_helped += attempt > 0
            waiting = again
            if not waiting:
                break
        return heard

    def _replies(self, kind: MadeKind, requests: Sequence[Request], what: str) -> list[Replied | None]:
        """None where the budget had no room for the request."""
        replies: list[Replied | None]
        try:
            replies = [*self._ask(kind, requests, what)]
        except UsedUpError as end:
            self.tally.used_up[kind] = end
            replies = answered_before(self.teacher, requests, self._store)
        self.tally.requests += sum(reply is not None for reply in replies)
        return replies

    def _ask(self, kind: MadeKind, requests: Sequence[Request], what: str) -> list[Replied]:
        with meter(f"{kind}: {what}", len(requests), what) as progress:
            cost = Cost(self._store, self.teacher.budget, len(requests))

            def count(key: str, from_store: bool) -> None:
                if from_store:
                    cost.skip()
                    progress.skip(1)
                else:
                    self.tally.sent[key] += 1
                    progress.advance(1, cost.note())

            return ask(self.teacher, requests, self._store, count, lambda note: progress.advance(0, note))

    def _read(self, kind: MadeKind, question: Question[Parsed], reply: Replied) -> Parsed | ParseFailure | None:
        self.tally.spend(reply.key, self._role, reply.answer)
        if isinstance(reply.answer, Failed):
            self.tally.fail(kind, reply.answer)
            return None
        return question.parse(reply.answer.text)
