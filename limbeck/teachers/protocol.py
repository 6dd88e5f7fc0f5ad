"""What a teacher is: it takes requests and gives raw texts; everything it says passes through the reply store."""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from limbeck.api.answers import Answer
from limbeck.api.asking import Call, OnAnswer, Send, ask_all, ignore
from limbeck.api.batch_book import BatchBook
from limbeck.api.batch_results import Batching
from limbeck.api.batch_wire import LONGEST_BATCH_SECONDS
from limbeck.api.batches import OnNote, ask_in_batches, say_nothing
from limbeck.api.budget import Budget
from limbeck.api.reply_store import ReplyStore, reply_key
from limbeck.errors import TeacherError
from limbeck.records import Message, Pair, PromptRow, Record, WeakPrompt

RequestKind = Literal["zero_shot", "few_shot", "new_prompt", "rolling_prompt", "rolling", "revise", "plain"]


class NewPromptRow(Record):
    """What a new prompt is asked from: the weak prompts shown, or the human pairs that come before it (rolling).

    `fresh`: the problem that a teacher without invention takes.
    """

    id: str
    weak: tuple[WeakPrompt, ...] = ()
    context: tuple[Pair, ...] = ()
    fresh: PromptRow | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked of a teacher. `messages` are for models; `row` is for teachers that know the answer.

    `kind` names the template (`plain` has none: the prompt goes out as it is, and so comes the answer); `sample_index`
    tells apart requests that would otherwise be the same; `reask` counts how often the same was asked before in vain.
    """

    kind: RequestKind
    row: PromptRow | NewPromptRow
    messages: tuple[Message, ...]
    sample_index: int = 0
    reask: int = 0


class Teacher(Protocol):
    """Whoever can write pairs. `invents_prompts` is False where new prompts have to be handed to it (`fresh`)."""

    name: str
    concurrency: int
    invents_prompts: bool

    @property
    def budget(self) -> Budget:
        """What it may cost; it counts over everything in a store.

        Raises:
            RecipeError: the recipe does not say, or says it in money where no price is known.
        """

    def check(self) -> None:
        """Raise `TeacherError` where this teacher cannot be asked at all; sends nothing."""

    def identity(self, request: Request) -> Mapping[str, Any]:
        """Everything that decides the reply to `request`, as JSON; no secrets. The store's key is its digest."""

    def session(self) -> AbstractAsyncContextManager[Send[Request]]:
        """Open what asking needs; the value is the function that answers one request.

        Raises:
            TeacherError: here or from that function, for what is final for every request.
        """

    def facts(self) -> Mapping[str, Any]:
        """What the manifest should say of how this teacher was asked."""


@runtime_checkable
class TakesBatches(Protocol):
    """A teacher that may be asked through its provider's batch API."""

    def batching(self) -> Batching[Request] | None:
        """How requests go out in batches; None where they go one by one."""


class Replied(NamedTuple):
    """An answer and the key under which the store keeps it."""

    key: str
    answer: Answer


def ask(
    teacher: Teacher,
    requests: Sequence[Request],
    store: ReplyStore,
    on_answer: OnAnswer = ignore,
    on_note: OnNote = say_nothing,
) -> list[Replied]:
    """Return the replies in the order of `requests`; what the store holds is not asked again.

    `on_note` hears how batches stand, where the teacher is asked in batches.

    Raises:
        TeacherError: the teacher gives no service at all; what it answered before is stored. Or the requests are to go
            one by one, and some are in a batch that is under way.
        BudgetError: the budget is used up, or cannot be kept with this server; so is that.
    """
    calls = [_call(teacher, request) for request in requests]
    batching = teacher.batching() if isinstance(teacher, TakesBatches) else None
    if batching is not None:
        answers = ask_in_batches(calls, batching, store, on_answer=on_answer, on_note=on_note, budget=teacher.budget)
    else:
        if isinstance(teacher, TakesBatches):
            _not_in_batches(calls, store)
        answers = ask_all(
            calls,
            teacher.session,
            store,
            concurrency=teacher.concurrency,
            on_answer=on_answer,
            budget=teacher.budget,
        )
    return [Replied(call.key, answers[call.key]) for call in calls]


def answered_before(teacher: Teacher, requests: Sequence[Request], store: ReplyStore) -> list[Replied | None]:
    """The replies that the store holds, in the order of `requests`; None where it holds none. Nothing is sent."""
    found = ((call.key, store.get(call.key)) for call in (_call(teacher, request) for request in requests))
    return [None if answer is None else Replied(key, answer) for key, answer in found]


def _not_in_batches(calls: Sequence[Call[Request]], store: ReplyStore) -> None:
    """What a batch is about to answer would be paid for twice."""
    number = BatchBook(store).count_waited_for(call.key for call in calls)
    if number:
        raise TeacherError(
            f"a batch with {number:,} of these requests is open: set teach.batch = true and run again, or wait until "
            f"{LONGEST_BATCH_SECONDS / 3600:g} hours have passed since it was sent"
        )


def _call(teacher: Teacher, request: Request) -> Call[Request]:
    identity = {**teacher.identity(request), "kind": request.kind, "sample_index": request.sample_index}
    if request.reask:
        identity["reask"] = request.reask
    return Call(reply_key(identity), request.kind, json.dumps(identity, sort_keys=True), request)
