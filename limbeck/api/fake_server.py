"""A fake OpenAI-compatible server, for tests and rehearsals: the real client is driven against it, nothing is sent.

server = FakeServer(lambda body: completion("hello"))
client = ChatClient(Endpoint(base_url="http://fake/v1"), transport=server.transport)

with server.listen() as url:   # the same behind a port of this machine, for what opens its own connections
    ...
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

Body = dict[str, Any]


class FakeServer:
    """Answers each request with what `answer(body)` returns or raises; `bodies` and `headers` hold what came in.

    A GET of the list of `models` is answered too, and counted in `looks`.
    """

    def __init__(self, answer: Callable[[Body], httpx.Response], models: tuple[str, ...] = ("m",)) -> None:
        self.bodies: list[Body] = []
        self.headers: list[httpx.Headers] = []
        self.models = models
        self.looks = 0
        self.transport = httpx.MockTransport(self._handle)
        self._answer = answer

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.headers.append(request.headers)
        if request.method == "GET":
            self.looks += 1
            return httpx.Response(200, json={"object": "list", "data": [{"id": name} for name in self.models]})
        body: Body = json.loads(request.content)
        self.bodies.append(body)
        return self._answer(body)

    @contextmanager
    def listen(self, port: int = 0) -> Iterator[str]:
        """Serve on a port of this machine (0: a free one) while the context lasts; the value is the base URL."""
        handle = self._handle

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Pass the request on, and the answer back."""
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = httpx.Request(
                    self.command, f"http://fake{self.path}", headers=[*self.headers.items()], content=content
                )
                answer = handle(asked)
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def do_POST(self) -> None:
                """The same."""
                self.do_GET()

            def log_message(self, *_: object) -> None:
                """Say nothing: what came in is in `bodies`."""

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def completion(
    text: str | None,
    finish_reason: str = "stop",
    refusal: str | None = None,
    *,
    tokens_out: int | None = 11,
    more: Mapping[str, Any] | None = None,
) -> httpx.Response:
    """A chat completion of one choice, which counts 7 tokens in and 11 out; with `tokens_out` None, it does not count.

    `more` is what some servers add to a choice, for instance vLLM's `stop_reason`.
    """
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, **(more or {})}
    body: Body = {"object": "chat.completion", "choices": [choice]}
    if tokens_out is not None:
        body["usage"] = {"prompt_tokens": 7, "completion_tokens": tokens_out, "total_tokens": 7 + tokens_out}
    return httpx.Response(200, json=body)


def error(
    status: int, message: str = "no", *, code: str = "", param: str = "", retry_after: str = ""
) -> httpx.Response:
    """An error as OpenAI words it."""
    headers = {"Retry-After": retry_after} if retry_after else {}
    return httpx.Response(status, json={"error": {"message": message, "code": code, "param": param}}, headers=headers)
