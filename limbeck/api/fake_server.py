"""A fake OpenAI-compatible server, for tests and rehearsals: the real client is driven against it, nothing is sent.

server = FakeServer(lambda body: completion("hello"))
client = ChatClient(Endpoint(base_url="http://fake/v1"), transport=server.transport)
"""

import json
from collections.abc import Callable
from typing import Any

import httpx

Body = dict[str, Any]


class FakeServer:
    """Answers each request with what `answer(body)` returns or raises; `bodies` and `headers` hold what came in."""

    def __init__(self, answer: Callable[[Body], httpx.Response]) -> None:
        self.bodies: list[Body] = []
        self.headers: list[httpx.Headers] = []
        self.transport = httpx.MockTransport(self._handle)
        self._answer = answer

    def _handle(self, request: httpx.Request) -> httpx.Response:
        body: Body = json.loads(request.content)
        self.bodies.append(body)
        self.headers.append(request.headers)
        return self._answer(body)


def completion(text: str | None, finish_reason: str = "stop", refusal: str | None = None) -> httpx.Response:
    """A chat completion of one choice, which counts 7 tokens in and 11 out."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 7, "completion_tokens": 11, "total_tokens": 18}
    return httpx.Response(200, json={"object": "chat.completion", "choices": [choice], "usage": usage})


def error(
    status: int, message: str = "no", *, code: str = "", param: str = "", retry_after: str = ""
) -> httpx.Response:
    """An error as OpenAI words it."""
    headers = {"Retry-After": retry_after} if retry_after else {}
    return httpx.Response(status, json={"error": {"message": message, "code": code, "param": param}}, headers=headers)
