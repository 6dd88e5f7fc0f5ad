"""What travels in a batch: requests as lines, a batch's state, and its lines of answers. Pure.

The format is OpenAI's (platform.openai.com/docs/api-reference/batch).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limbeck.api import wire
from limbeck.api.answers import Answer, Failed

ENDPOINT = "/v1/chat/completions"
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
LONGEST_BATCH_SECONDS = 26 * 3600.0  # a provider ends a batch after 24 hours
TOO_MANY_TOKENS = "token_limit_exceeded"  # more prompt tokens than an account may have waiting
_MOST_ERRORS_SHOWN = 3
_FINAL_STATUSES = frozenset({401, 403, 404, 410})  # as for a single request: no other would survive either
_FAILED_LINES = {
    "batch_expired": Failed(reason="timed_out", detail="the batch expired before the server came to this request"),
    "batch_cancelled": Failed(reason="server_error", detail="the batch was cancelled"),
}


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch as the server describes it. `errors` are of the batch as a whole, scrubbed."""

    id: str
    status: str
    mark: str
    done: int
    total: int
    files: tuple[str, ...]
    errors: tuple[wire.ServerError, ...]

    @property
    def ended(self) -> bool:
        """Nothing more will come of it."""
        return self.status in ENDED

    def complaint(self) -> str:
        """The server's own words on what is wrong with the batch as a whole."""
        said = [error.message for error in self.errors[:_MOST_ERRORS_SHOWN] if error.message]
        more = len(self.errors) - len(said)
        return "; ".join(said) + (f"; and {more} more" if said and more else "") or "it does not say why"


@dataclass(frozen=True, slots=True)
class Line:
    """The answer to one request. `error` is the server's where it refused it; `raw` is as it came but for the key."""

    key: str
    status: int
    answer: Answer
    error: wire.ServerError
    raw: str

    @property
    def completed(self) -> bool:
        """The request was carried out, and is billed."""
        return 200 <= self.status < 300

    @property
    def final(self) -> bool:
        """No other request would survive either."""
        return self.status in _FINAL_STATUSES or self.error.code == "insufficient_quota"


def write_line(key: str, body: bytes) -> bytes:
    """One request as a line of the file that is uploaded; its answer will carry `key`."""
    return wire.encode({"custom_id": key, "method": "POST", "url": ENDPOINT})[:-1] + b',"body":' + body + b"}\n"


def read_id(content: bytes) -> str | None:
    """The id of what was just made, or None where it has none."""
    value = _object(content).get("id")
    return value if isinstance(value, str) and value else None


def read_batch(content: bytes | dict[str, Any], secret: str | None) -> BatchState | None:
    """Read a batch, or None where this is none."""
    body = _object(content) if isinstance(content, bytes) else content
    id_, status = body.get("id"), body.get("status")
    if not (isinstance(id_, str) and isinstance(status, str)):
        return None
    counts = _inner(body, "request_counts")
    files = (body.get("output_file_id"), body.get("error_file_id"))
    data = _inner(body, "errors").get("data")
    errors = [error for error in data if isinstance(error, dict)] if isinstance(data, list) else []
    return BatchState(
        id=id_,
        status=wire.scrub(status, secret),
        mark=str(_inner(body, "metadata").get("limbeck", "")),
        done=_count(counts, "completed") + _count(counts, "failed"),
        total=_count(counts, "total"),
        files=tuple(file for file in files if isinstance(file, str) and file),
        errors=tuple(_error(error, secret) for error in errors),
    )


def read_batches(content: bytes, secret: str | None) -> tuple[list[BatchState], bool] | None:
    """Read a page of a server's list of batches, and whether there are more; None where this is none."""
    body = _object(content)
    data = body.get("data")
    if not isinstance(data, list):
        return None
    states = [read_batch(entry, secret) for entry in data if isinstance(entry, dict)]
    return [state for state in states if state is not None], body.get("has_more") is True


def read_line(content: bytes, secret: str | None) -> Line | None:
    """Read a line of an output or an error file, or None where it is no line that names a request."""
    body = _object(content)
    key = body.get("custom_id")
    if not isinstance(key, str):
        return None
    raw = wire.without(content, secret)
    response = _inner(body, "response")
    status = response.get("status_code")
    if not isinstance(status, int):
        error = _error(_inner(body, "error"), secret)
        told = f"the batch gave no answer: {error.message or error.code or 'it does not say why'}"
        failed = _FAILED_LINES.get(error.code) or Failed(reason="server_error", detail=told)
        return Line(key, 0, failed, error, raw)
    answered = response.get("body")
    inner = (answered if isinstance(answered, str) else json.dumps(answered)).encode("utf-8", "surrogatepass")
    if 200 <= status < 300:
        return Line(key, status, wire.read_completion(inner, secret), wire.ServerError(""), raw)
    error = wire.read_error(inner, secret)
    return Line(key, status, _refused(status, error), error, raw)


def _refused(status: int, error: wire.ServerError) -> Failed:
    if error.code == "content_filter":
        return Failed(reason="content_filter", detail=error.message)
    if status in (400, 413, 422):
        return Failed(reason="bad_request", detail=error.message)
    return Failed(reason="rate_limited" if status == 429 else "server_error", detail=f"{status}: {error.message}")


def _error(value: Mapping[str, Any], secret: str | None) -> wire.ServerError:
    message = value.get("message")
    text = wire.scrub(message, secret) if isinstance(message, str) else ""
    line = value.get("line")
    where = f"line {line}: " if isinstance(line, int) and text else ""
    return wire.ServerError(where + text, wire.scrub(str(value.get("code") or ""), secret))


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _inner(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def _count(counts: Mapping[str, Any], name: str) -> int:
    value = counts.get(name)
    return value if isinstance(value, int) and value > 0 else 0
