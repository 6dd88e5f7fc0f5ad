"""A fake of OpenAI's batch API, for tests and rehearsals: the real batch client is driven against it.

server = FakeBatches(lambda body: completion("hello"))
client = BatchClient(Endpoint(base_url="http://fake/v1"), transport=server.transport)

It keeps to the documented format: files uploaded as multipart forms, batches that are `validating`, `in_progress` and
then ended, an output file of what was answered and an error file of what was not.
"""

import email
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx

from limbeck.api.fake_server import error

Body = dict[str, Any]
GONE = error(404, "no such object")


@dataclass
class FakeBatch:
    """One batch: the requests in it by key, and how it ends."""

    id: str
    requests: dict[str, Body]
    metadata: Body
    created_at: float
    looks_left: int
    ends_as: str = "completed"
    errors: list[Body] = field(default_factory=list)
    results: dict[str, list[Body]] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """What a look at it says."""
        return "in_progress" if self.looks_left > 0 else self.ends_as

    def shown(self) -> Body:
        """The batch as the API shows it."""
        files = {f"{name}_file_id": f"{self.id}-{name}" if lines else None for name, lines in self.results.items()}
        counts = {"total": len(self.requests), "completed": len(self.results.get("output", [])), "failed": 0}
        ended = self.looks_left <= 0
        return {
            "id": self.id,
            "object": "batch",
            "status": self.status,
            "metadata": self.metadata,
            "created_at": self.created_at,
            "request_counts": counts if ended else {**counts, "completed": 0},
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            **(files if ended else {}),
        }


class FakeBatches:
    """Answers each request of a batch with what `answer(body)` returns; None where the batch ends before it.

    `batches` and `uploads` hold what came in. A batch ends at the look numbered `looks`, as `expired` where a request
    got no answer. `first(request)`, where given, may answer an HTTP request itself, or raise; `after(request)` may
    raise once it has been carried out, so that its answer is lost. `page`: batches a page of the list.
    """

    def __init__(
        self,
        answer: Callable[[Body], httpx.Response | None],
        *,
        looks: int = 2,
        ends_as: str = "",
        errors: Sequence[Body] = (),
        page: int = 100,
        first: Callable[[httpx.Request], httpx.Response | None] = lambda _: None,
        after: Callable[[httpx.Request], None] = lambda _: None,
    ) -> None:
        self.batches: list[FakeBatch] = []
        self.uploads: list[bytes] = []
        self.headers: list[httpx.Headers] = []
        self.asked: list[str] = []
        self.ends_as, self.errors, self.first, self.after = ends_as, list(errors), first, after
        self.transport = httpx.MockTransport(self._handle)
        self._answer, self._looks, self._page = answer, looks, page

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.headers.append(request.headers)
        self.asked.append(f"{request.method} {request.url.path}")
        answer = self.first(request) or self._carry_out(request)
        self.after(request)
        return answer

    def _carry_out(self, request: httpx.Request) -> httpx.Response:
        parts = request.url.path.removeprefix("/v1/").split("/")
        if request.method == "POST":
            return self._upload(request) if parts == ["files"] else self._create(json.loads(request.content))
        if parts == ["batches"]:
            return self._list(parse_qs(request.url.query.decode()))
        if parts[0] == "batches":
            return self._look(parts[1])
        return self._file(parts[1])

    def _upload(self, request: httpx.Request) -> httpx.Response:
        form = email.message_from_bytes(
            b"Content-Type: " + request.headers["Content-Type"].encode() + b"\r\n\r\n" + request.content
        )
        for part in form.walk():
            if part.get_filename():
                content = part.get_payload(decode=True)
                self.uploads.append(content if isinstance(content, bytes) else b"")
        return httpx.Response(200, json={"id": f"file-{len(self.uploads) - 1}", "object": "file"})

    def _create(self, asked: Body) -> httpx.Response:
        lines = self.uploads[int(asked["input_file_id"].removeprefix("file-"))].splitlines()
        requests = {entry["custom_id"]: entry["body"] for entry in map(json.loads, lines)}
        number = len(self.batches)
        batch = FakeBatch(f"batch_{number}", requests, asked.get("metadata", {}), 1e9 + number, self._looks)
        self._run(batch)
        self.batches.append(batch)
        return httpx.Response(200, json=batch.shown() | {"status": "validating"})

    def _run(self, batch: FakeBatch) -> None:
        if self.ends_as == "failed":
            batch.ends_as, batch.errors = "failed", self.errors
            return
        output: list[Body] = []
        errors: list[Body] = []
        for key, body in batch.requests.items():
            answer = self._answer(body)
            if answer is None:
                batch.ends_as = self.ends_as or "expired"
                told = {"code": f"batch_{batch.ends_as}", "message": "not executed"}
                errors.append({"custom_id": key, "response": None, "error": told})
                continue
            response = {"status_code": answer.status_code, "request_id": "r", "body": answer.json()}
            (output if answer.is_success else errors).append({"custom_id": key, "response": response, "error": None})
        batch.results = {"output": output[::-1], "error": errors}  # in no order that was promised

    def _list(self, query: dict[str, list[str]]) -> httpx.Response:
        newest = self.batches[::-1]
        after = query.get("after", [""])[0]
        start = next((place + 1 for place, batch in enumerate(newest) if batch.id == after), 0)
        page = newest[start : start + self._page]
        more = start + self._page < len(newest)
        return httpx.Response(200, json={"data": [batch.shown() for batch in page], "has_more": more})

    def _look(self, batch_id: str) -> httpx.Response:
        batch = next((batch for batch in self.batches if batch.id == batch_id), None)
        if batch is None:
            return GONE
        batch.looks_left -= 1
        return httpx.Response(200, json=batch.shown())

    def _file(self, file_id: str) -> httpx.Response:
        batch_id, _, name = file_id.rpartition("-")
        batch = next((batch for batch in self.batches if batch.id == batch_id), None)
        if batch is None:
            return GONE
        content = "".join(json.dumps(line) + "\n" for line in batch.results[name])
        return httpx.Response(200, text=content)
