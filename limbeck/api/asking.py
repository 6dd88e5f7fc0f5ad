"""Many calls at once, through the reply store: a stored reply is never bought again, a new one is stored first.

One of the two paths by which teachers and judges ask anything; the other is `batches`. Knows nothing of HTTP: whoever
calls brings the `send`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from limbeck.api.answers import Answer
from limbeck.api.budget import UNLIMITED, Account, Budget, Purse
from limbeck.api.reply_store import ReplyStore
from limbeck.api.workers import run_workers

Payload = TypeVar("Payload")
Send = Callable[[Payload, Account], Awaitable[Answer]]
Session = Callable[[], AbstractAsyncContextManager[Send[Payload]]]
OnAnswer = Callable[[str, bool], None]


def ignore(_key: str, _from_store: bool) -> None:
    """Take no notice of an answer."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Payload]):
    """One thing to ask: its key, a word for what it is, its JSON for the journal (no secrets), what `send` takes."""

    key: str
    kind: str
    request: str
    payload: Payload


def ask_all(
    calls: Sequence[Call[Payload]],
    session: Session[Payload],
    store: ReplyStore,
    *,
    concurrency: int,
    on_answer: OnAnswer = ignore,
    budget: Budget = UNLIMITED,
) -> dict[str, Answer]:
    """Return the answer of every call by key; `session` is opened only if something has to be sent.

    At most `concurrency` calls are in flight. `on_answer` is called once an answer, with its key and True
    where it was stored. `send` gets the call's account with its payload, and books each attempt there.

    Raises:
        TeacherError: whatever `session` or its `send` raises as final for all.
        BudgetError: the budget allows no further request.
            Of both, and of any other error: nothing more is begun, and what was in flight is answered and stored first.
    """
    answers, missing = look_up(calls, store, on_answer)
    if missing:
        run = _Run(store, budget, on_answer, answers)
        asyncio.run(run.send_all(list(missing.values()), session, concurrency))
    return answers


class LookedUp(NamedTuple, Generic[Payload]):
    """The answers that a store has by key, and the calls that it has none for: each key once, in order."""

    answers: dict[str, Answer]
    missing: dict[str, Call[Payload]]


def look_up(calls: Sequence[Call[Payload]], store: ReplyStore, on_answer: OnAnswer) -> LookedUp[Payload]:
    """Take from the store what it has."""
    answers: dict[str, Answer] = {}
    missing: dict[str, Call[Payload]] = {}
    for call in calls:
        if call.key in answers or call.key in missing:
            continue
        stored = store.get(call.key)
        if stored is None:
            missing[call.key] = call
        else:
            answers[call.key] = stored
            on_answer(call.key, True)
    return LookedUp(answers, missing)


class _Run:
    """The calls of one run that are sent."""

    def __init__(self, store: ReplyStore, budget: Budget, on_answer: OnAnswer, answers: dict[str, Answer]) -> None:
        self._store, self._budget, self._on_answer, self._answers = store, budget, on_answer, answers
        self._final: Exception | None = None

    async def send_all(self, calls: Sequence[Call[Payload]], session: Session[Payload], concurrency: int) -> None:
        """Send them, in order, and keep each answer."""
        queue = iter(calls)
        purse = Purse(self._store, self._budget)
        async with session() as send:

            async def work() -> None:
                try:
                    for call in queue:
                        if self._final is not None:
                            return
                        await self._ask(call, send, purse)
                except Exception as error:
                    self._final = self._final or error
                    raise

            await run_workers(work, min(concurrency, len(calls)), others_finish=True)
        if self._final is not None:
            raise self._final

    async def _ask(self, call: Call[Payload], send: Send[Payload], purse: Purse) -> None:
        if (stored := self._store.get(call.key)) is not None:  # by another run, since this one began
            self._answers[call.key] = stored
            self._on_answer(call.key, True)
            return
        account = purse.account(call.key, call.kind, call.request)
        answer = await send(call.payload, account)
        if not account.begun:  # what is asked within this process is free
            account.settle(await account.begin(0, 0), 0, 0, "")
        self._store.finish(call.key, answer)
        # Where two runs asked at once, both use the first reply.
        self._answers[call.key] = self._store.get(call.key) or answer
        self._on_answer(call.key, False)
