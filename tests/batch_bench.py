"""A bench for the batch API: a fake server, the real client over it, and a clock that only waiting moves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from limbeck.api import Answered, Call, ChatRequest, ReplyStore
from limbeck.api.batch_client import BatchClient
from limbeck.api.batch_results import Batching
from limbeck.api.batches import ask_in_batches
from limbeck.api.budget import UNLIMITED, Budget
from limbeck.api.fake_batches import FakeBatches
from limbeck.api.fake_server import Body, completion
from limbeck.recipe.pairs import Endpoint
from limbeck.records import Message

KEY = "sk-secret-1234567890"
MOST_OUT = 50


class Killed(BaseException):
    """The process is no more."""


class Bench:
    """A fake server, a real client over it, and a clock that only waiting moves."""

    def __init__(self, folder: Path, server: FakeBatches, **settings: Any) -> None:
        self.path, self.server, self.settings = folder / "replies.sqlite", server, settings
        self.time, self.waits, self.notes = 1000.0, list[float](), list[str]()
        self.told: list[tuple[str, bool]] = []
        self.request: Callable[[str], ChatRequest] = request
        self.on_sleep: Callable[[], object] = lambda: None

    def ask(self, number: int | list[str], budget: Budget = UNLIMITED) -> list[Any]:
        client = BatchClient(
            Endpoint(base_url="http://fake/v1", api_key_env="OPENAI_API_KEY", max_retries=2, timeout_seconds=100),
            transport=self.server.transport,
            sleep=self._sleep,
            now=lambda: self.time,
            environ={"OPENAI_API_KEY": KEY},
        )
        self.batching = Batching(client, self.request, **self.settings)
        keys = [f"k{n}" for n in range(number)] if isinstance(number, int) else number
        calls = [Call(key, "zero_shot", "{}", f"question {key}") for key in keys]
        with ReplyStore(self.path) as store:
            answers = ask_in_batches(
                calls,
                self.batching,
                store,
                on_answer=lambda key, kept: self.told.append((key, kept)),
                on_note=self.notes.append,
                budget=budget,
            )
        return [answers[key] for key in keys]

    def store(self) -> ReplyStore:
        return ReplyStore(self.path)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds
        self.on_sleep()


def request(question: str) -> ChatRequest:
    parameters = {"max_tokens": MOST_OUT, "temperature": 0.7}
    return ChatRequest("m", (Message(role="user", content=question),), parameters)


def worst_tokens(key: str) -> int:
    """One token a byte of the body, and the longest reply."""
    return len(json.dumps(request(f"question {key}").body(), separators=(",", ":"))) + MOST_OUT


def echo(body: Body) -> httpx.Response:
    return completion(f"answer to {body['messages'][0]['content']}")


def answered(key: str) -> Answered:
    return Answered(text=f"answer to question {key}", tokens_in=7, tokens_out=11)
