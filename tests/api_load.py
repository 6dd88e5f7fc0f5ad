"""Many requests through the store against the faulty server: what tests of load and of killing share. Helpers of tests.

As a program it asks once: `python tests/api_load.py URL STORE PREFIX NUMBER CONCURRENCY`.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from limbeck.api import Answer, Call, ChatClient, ChatRequest, ReplyStore, ask_all, reply_key
from limbeck.api.asking import Send
from limbeck.api.budget import UNLIMITED, Budget
from limbeck.api.faulty_ledger import marked
from limbeck.recipe.pairs import Endpoint
from limbeck.records import user_prompt

IMPATIENCE = (
    10.0  # the client's waits are shorter by this factor: what is tested is what it sends, not how long it waits
)


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds / IMPATIENCE)


def names(prefix: str, number: int) -> list[str]:
    """The marks of a load's requests."""
    return [f"{prefix}.{i}" for i in range(number)]


def load_calls(url: str, marks: Sequence[str], max_tokens: int = 256) -> list[Call[ChatRequest]]:
    """A request for each mark."""
    parameters = {"temperature": 0.7, "max_tokens": max_tokens, "response_format": {"type": "json_object"}}
    calls = []
    for mark in marks:
        request = ChatRequest("faulty-1", user_prompt(f"{marked(mark)} Write a pair."), parameters)
        identity = {"endpoint": url, **request.body()}
        calls.append(Call(reply_key(identity), "zero_shot", json.dumps(identity), request))
    return calls


def ask_load(
    url: str,
    store: ReplyStore,
    marks: Sequence[str],
    *,
    concurrency: int,
    timeout_seconds: float = 3.0,
    max_retries: int = 8,
    budget: Budget = UNLIMITED,
) -> dict[str, Answer]:
    """Ask everything; the answers by mark."""
    endpoint = Endpoint(base_url=url, concurrency=concurrency, timeout_seconds=timeout_seconds, max_retries=max_retries)
    client = ChatClient(endpoint, sleep=_sleep, environ={})

    @asynccontextmanager
    async def session() -> AsyncIterator[Send[ChatRequest]]:
        async with client as open_client:
            yield open_client.complete

    calls = load_calls(url, marks)
    answers = ask_all(calls, session, store, concurrency=concurrency, budget=budget)
    return {mark: answers[call.key] for mark, call in zip(marks, calls, strict=True)}


def main(arguments: Sequence[str]) -> None:
    """Ask once, from the command line; a line on standard output says when asking begins."""
    url, path, prefix, number, concurrency = arguments
    with ReplyStore(Path(path)) as store:
        sys.stdout.write("asking\n")
        sys.stdout.flush()
        ask_load(url, store, names(prefix, int(number)), concurrency=int(concurrency))


if __name__ == "__main__":
    main(sys.argv[1:])
