"""Many calls at once, through the reply store: a stored reply is never bought again, a new one is stored first.

The one path by which teachers and judges ask anything. Knows nothing of HTTP: whoever calls brings the `send`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

from limbeck.api.answers import Answer
from limbeck.api.reply_store import ReplyStore
from limbeck.api.workers import run_workers

Payload = TypeVar("Payload")
Send = Callable[[Payload], Awaitable[Answer]]
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
) -> dict[str, Answer]:
    """Return the answer of every call by key; `session` is opened only if something has to be sent.

    At most `concurrency` calls are in flight. `on_answer` is called once an answer, with its key and True
    where it was stored.

    Raises:
        TeacherError: whatever `session` or its `send` raises as final for all; answers that came before are stored.
    """
    answers: dict[str, Answer] = {}
    missing: dict[str, Call[Payload]] = {}
    for call in calls:
        stored = store.get(call.key)
        if stored is None:
            missing[call.key] = call
        else:
            answers[call.key] = stored
            on_answer(call.key, True)
    if missing:
        bought = asyncio.run(_send_all(list(missing.values()), session, store, concurrency, on_answer))
        answers.update(bought)
    return answers


async def _send_all(
    calls: Sequence[Call[Payload]],
    session: Session[Payload],
    store: ReplyStore,
    concurrency: int,
    on_answer: OnAnswer,
) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    queue = iter(calls)
    async with session() as send:

        async def work() -> None:
            await _work(queue, send, store, answers, on_answer)

        await run_workers(work, min(concurrency, len(calls)))
    return answers


async def _work(
    queue: Iterator[Call[Payload]],
    send: Send[Payload],
    store: ReplyStore,
    answers: dict[str, Answer],
    on_answer: OnAnswer,
) -> None:
    for call in queue:
        store.journal(call.key, call.kind, call.request)
        answer = await send(call.payload)
        store.finish(call.key, answer)
        answers[call.key] = store.get(call.key) or answer  # where two runs asked at once, both use the first reply
        on_answer(call.key, False)
