"""The files and batches of a faulty server: OpenAI's batch API, with batches that expire, fail or are cancelled.

A batch ends after a set number of looks at it, and not after time, so that tests need not wait. Where `unsteady` says
so, a request is answered with 503, or carried out and its reply lost: the client cannot know, and must not pay twice.
"""

import itertools
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from limbeck.api.faults import Fate, Faults
from limbeck.api.faulty_http import Heard, Reply, error_reply, json_reply
from limbeck.api.faulty_ledger import Ledger, key_of
from limbeck.api.faulty_replies import Written, write

MOST_LINES = 50_000  # of one batch, as OpenAI has it
_ENDPOINT = "/v1/chat/completions"
_BOUNDARY = re.compile(rb'boundary="?([^"\r\n;]+)', re.IGNORECASE)
_NAME = re.compile(rb'name="([^"]*)"')
_FILENAME = re.compile(rb'filename="([^"]*)"')
_Object = dict[str, Any]


class Part(NamedTuple):
    """One part of a multipart form."""

    name: str
    filename: str
    content: bytes


@dataclass
class _Batch:
    """One batch: its object as clients see it, its lines, and how many looks are left until it ends."""

    shown: _Object
    lines: list[_Object]
    polls_left: int
    fate: str
    dice: random.Random
    cancelled: bool = False


@dataclass
class BatchDesk:
    """Takes files and batches; every line that a batch answers stands in the ledger."""

    faults: Faults
    ledger: Ledger
    _files: dict[str, tuple[_Object, bytes]] = field(default_factory=dict)
    _batches: dict[str, _Batch] = field(default_factory=dict)
    _heard: int = 0

    def handle(self, heard: Heard) -> Reply | None:
        """The reply to a request about files or batches; None where it is about neither."""
        path, _, query = heard.path.partition("?")
        parts = path.removeprefix("/v1/").split("/")
        if parts[0] not in ("files", "batches"):
            return None
        self._heard += 1
        dice = random.Random(f"{self.faults.seed}:desk:{self._heard}")
        unsteady = dice.random() < self.faults.batches.unsteady
        if unsteady and dice.random() < 0.5:
            return error_reply(503, "the server is not well")
        reply = self._route(heard, parts, query)
        return replace(reply, ending="reset_before") if unsteady else reply

    def _route(self, heard: Heard, parts: list[str], query: str) -> Reply:
        name = parts[1] if len(parts) > 1 else ""
        actions: Mapping[tuple[str, str, int, str], Callable[[], Reply]] = {
            ("POST", "files", 1, ""): lambda: self._upload(heard),
            ("GET", "files", 2, ""): lambda: self._file(name, content=False),
            ("GET", "files", 3, "content"): lambda: self._file(name, content=True),
            ("DELETE", "files", 2, ""): lambda: self._delete(name),
            ("POST", "batches", 1, ""): lambda: self._create(heard.body),
            ("GET", "batches", 1, ""): lambda: self._list(query),
            ("GET", "batches", 2, ""): lambda: self._look(name),
            ("POST", "batches", 3, "cancel"): lambda: self._cancel(name),
        }
        last = parts[2] if len(parts) > 2 else ""
        action = actions.get((heard.method, parts[0], len(parts), last))
        return action() if action else error_reply(404, f"nothing at {heard.method} {heard.path}")

    def _upload(self, heard: Heard) -> Reply:
        form = {part.name: part for part in form_parts(heard)}
        if "file" not in form or "purpose" not in form:
            return error_reply(400, "a form with `purpose` and `file` is needed")
        part = form["file"]
        return json_reply(self._keep(part.content, part.filename, form["purpose"].content.decode()))

    def _keep(self, content: bytes, filename: str, purpose: str) -> _Object:
        name = f"file-{len(self._files) + 1}"
        shown = {"id": name, "object": "file", "bytes": len(content), "created_at": int(time.time())}
        shown |= {"filename": filename, "purpose": purpose, "status": "processed"}
        self._files[name] = (shown, content)
        return shown

    def _file(self, name: str, *, content: bool) -> Reply:
        if name not in self._files:
            return error_reply(404, f"No such File object: {name}")
        shown, held = self._files[name]
        return Reply(200, held, content_type="application/octet-stream") if content else json_reply(shown)

    def _delete(self, name: str) -> Reply:
        if self._files.pop(name, None) is None:
            return error_reply(404, f"No such File object: {name}")
        return json_reply({"id": name, "object": "file", "deleted": True})

    def _create(self, content: bytes) -> Reply:
        try:
            asked = json.loads(content)
            source = self._files[asked["input_file_id"]]
        except (ValueError, KeyError, TypeError):
            return error_reply(400, "input_file_id names no file")
        if source[0]["purpose"] != "batch" or asked.get("endpoint") != _ENDPOINT:
            return error_reply(400, f"a file of purpose `batch` and the endpoint {_ENDPOINT} are needed")
        if asked.get("completion_window") != "24h":
            return error_reply(400, "completion_window is 24h")
        number = len(self._batches)
        fates = self.faults.batches.fates
        lines, errors = read_lines(source[1])
        shown = _fresh(f"batch_{number + 1}", asked, len(lines))
        if errors:
            shown["errors"] = {"object": "list", "data": errors}
        fate = "failed" if errors else fates[min(number, len(fates) - 1)]
        dice = random.Random(f"{self.faults.seed}:batch:{number}")
        self._batches[shown["id"]] = _Batch(shown, lines, self.faults.batches.polls, fate, dice)
        return json_reply(shown)

    def _list(self, query: str) -> Reply:
        wanted = dict(pair.partition("=")[::2] for pair in query.split("&"))
        shown = [batch.shown for batch in reversed(self._batches.values())]  # the newest first
        names = [batch["id"] for batch in shown]
        first = names.index(wanted["after"]) + 1 if wanted.get("after") in names else 0
        limit = int(wanted.get("limit", "20"))
        page = shown[first : first + limit]
        return json_reply({"object": "list", "data": page, "has_more": first + limit < len(shown)})

    def _look(self, name: str) -> Reply:
        batch = self._batches.get(name)
        if batch is None:
            return error_reply(404, f"No batch found with id '{name}'.")
        if batch.polls_left > 0:
            batch.polls_left -= 1
            if batch.polls_left == 0:
                self._end(batch)
            elif not batch.cancelled:
                batch.shown |= {"status": "in_progress", "in_progress_at": int(time.time())}
        return json_reply(batch.shown)

    def _cancel(self, name: str) -> Reply:
        batch = self._batches.get(name)
        if batch is None:
            return error_reply(404, f"No batch found with id '{name}'.")
        if batch.polls_left == 0:
            return error_reply(409, f"the batch has ended: {batch.shown['status']}")
        batch.fate, batch.cancelled, batch.polls_left = "cancelled", True, 1
        batch.shown |= {"status": "cancelling", "cancelling_at": int(time.time())}
        return json_reply(batch.shown)

    def _end(self, batch: _Batch) -> None:
        now = int(time.time())
        batch.shown |= {"status": batch.fate, f"{batch.fate}_at": now}
        if batch.fate == "failed":
            batch.shown["errors"] = batch.shown["errors"] or _errors("the input file cannot be used")
            return
        done = len(batch.lines) if batch.fate == "completed" else round(self.faults.batches.done * len(batch.lines))
        lines = batch.dice.sample(batch.lines, len(batch.lines))  # a provider's order is not the client's
        results = [self._answer(line, batch) for line in lines[:done]]
        results += [_unanswered(line, batch.fate) for line in lines[done:]]
        good = [line for line in results if _is_good(line)]
        bad = [line for line in results if not _is_good(line)]
        for kind, written in (("output", good), ("error", bad)):
            if written:
                content = "".join(json.dumps(line) + "\n" for line in written).encode()
                kept = self._keep(content, f"{batch.shown['id']}_{kind}.jsonl", "batch_output")
                batch.shown[f"{kind}_file_id"] = kept["id"]
        batch.shown["request_counts"] = {"total": len(lines), "completed": len(good), "failed": len(bad)}

    def _answer(self, line: _Object, batch: _Batch) -> _Object:
        body = line["body"]
        key = key_of(json.dumps(body).encode())
        tokens = batch.dice.randint(*self.faults.reply_tokens)
        failing = batch.dice.random() < self.faults.batches.failing
        met = Fate("bad_request" if failing else "answered", 0.0, tokens, batch.dice)
        written = Written(error_reply(400, "this line fails")) if failing else write(body, key, met, self.faults, 0)
        reply = self.ledger.note(key, met.how, written, batch=True)
        response = {"status_code": reply.status, "request_id": f"req-{key}", "body": json.loads(reply.body)}
        return {"id": f"batch_req_{key}", "custom_id": line["custom_id"], "response": response, "error": None}


def _fresh(name: str, asked: _Object, total: int) -> _Object:
    empty = dict.fromkeys(("output_file_id", "error_file_id", "errors", "in_progress_at", "completed_at"))
    return empty | {
        "id": name,
        "object": "batch",
        "endpoint": asked["endpoint"],
        "input_file_id": asked["input_file_id"],
        "completion_window": asked["completion_window"],
        "status": "validating",
        "created_at": int(time.time()),
        "expires_at": int(time.time()) + 86_400,
        "request_counts": {"total": total, "completed": 0, "failed": 0},
        "metadata": asked.get("metadata"),
    }


def _is_good(result: _Object) -> bool:
    return result["error"] is None and result["response"]["status_code"] == 200


def _unanswered(line: _Object, fate: str) -> _Object:
    code = {"expired": "batch_expired", "cancelled": "batch_cancelled"}[fate]
    error = {"code": code, "message": "This request could not be executed before the batch ended."}
    return {"id": f"batch_req_{line['custom_id']}", "custom_id": line["custom_id"], "response": None, "error": error}


def _errors(message: str, line: int | None = None, code: str = "invalid_request") -> _Object:
    return {"object": "list", "data": [{"code": code, "message": message, "line": line, "param": None}]}


def read_lines(content: bytes) -> tuple[list[_Object], list[_Object]]:
    """The lines of a batch's file, and what is wrong with it, as OpenAI validates: nothing of it runs then."""
    lines: list[_Object] = []
    errors: list[_Object] = []
    seen: set[str] = set()
    for number, text in enumerate(content.splitlines(), start=1):
        try:
            line = json.loads(text)
            known = line["custom_id"] in seen
            usable = line["method"] == "POST" and line["url"] == _ENDPOINT and isinstance(line["body"], dict)
        except (ValueError, KeyError, TypeError):
            errors += _errors("this line is not valid", number, "invalid_json_line")["data"]
            continue
        if known:
            errors += _errors("this custom_id is used twice", number, "duplicate_custom_id")["data"]
        elif not usable:
            errors += _errors("method, url or body cannot be used", number, "invalid_request")["data"]
        seen.add(line["custom_id"])
        lines.append(line)
    if not lines and not errors:
        errors += _errors("the file is empty", code="empty_file")["data"]
    if len(lines) > MOST_LINES:
        errors += _errors(f"more than {MOST_LINES} lines", code="too_many_tasks")["data"]
    return lines, errors


def form_parts(heard: Heard) -> Iterator[Part]:
    """The parts of a multipart form; none where there is no form."""
    boundary = _BOUNDARY.search(heard.head)
    pieces = heard.body.split(b"--" + boundary[1]) if boundary else []
    for piece in itertools.islice(pieces, 1, None):
        head, found, content = piece.partition(b"\r\n\r\n")
        name, filename = _NAME.search(head), _FILENAME.search(head)
        if found and name:
            told = filename[1].decode() if filename else ""
            yield Part(name[1].decode(), told, content.removesuffix(b"\r\n"))
