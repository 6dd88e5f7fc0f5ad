"""HTTP/1.1 by hand, for a server that misbehaves on purpose: no library cuts a body short, or resets a connection.

Reads requests of one connection after another, hands each to `handle`, and ends the reply as it says. Knows nothing of
chat. One callback a request and no task, so that one core serves thousands a second and is not what is measured.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, NamedTuple, cast

Ending = Literal[
    "whole",  # as HTTP has it
    "hangs_up",  # whole, and then the connection is closed although nothing said so
    "cut_body",  # half of the body that Content-Length promises, then a close
    "reset_before",  # a reset (RST) in place of a reply
    "reset_within",  # a reset in the middle of the body
    "silent",  # nothing, until the other side leaves
]
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of 0 seconds: closing sends RST and not FIN
_LONGEST_HEAD = 65_536


class Heard(NamedTuple):
    """One request. `path` is as it was sent, with its query; `head` the lines before the body."""

    method: str
    path: str
    head: bytes
    body: bytes


def ignore(_reached: bool) -> None:
    """Take no notice of a reply's end."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back, when, and how it ends. `sent` hears once whether the other side was still there by then."""

    status: int
    body: bytes
    headers: str = ""  # more lines, each with its CRLF
    after_seconds: float = 0.0
    ending: Ending = "whole"
    content_type: str = "application/json"
    sent: Callable[[bool], None] = ignore

    def bytes(self) -> bytes:
        """Head and body on the wire."""
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n{self.headers}\r\n"
        )
        return head.encode("ascii") + self.body


def json_reply(value: object, status: int = 200) -> Reply:
    """A reply at once, and whole."""
    return Reply(status, json.dumps(value).encode())


def error_reply(status: int, message: str, code: str = "") -> Reply:
    """An error as OpenAI words it."""
    return json_reply({"error": {"message": message, "type": "error", "code": code or None, "param": None}}, status)


class Connection(asyncio.Protocol):
    """One client's connection, kept alive; a request is read when the one before it is answered."""

    def __init__(self, handle: Callable[[Heard], Reply]) -> None:
        self._handle = handle
        self._buffer = bytearray()
        self._waiting: Reply | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Gather bytes until a request is whole."""
        self._buffer += data
        if self._waiting is None:
            self._take()

    def connection_lost(self, _exc: Exception | None) -> None:
        """The other side left, or was left: a reply that still waits has nobody to go to."""
        if self._timer is not None:
            self._timer.cancel()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.sent(False)

    def _take(self) -> None:
        heard = self._next()
        if heard is None:
            return
        reply = self._waiting = self._handle(heard)
        if reply.ending == "silent":
            return
        if reply.after_seconds > 0:
            self._timer = asyncio.get_running_loop().call_later(reply.after_seconds, self._answer)
        else:
            self._answer()

    def _next(self) -> Heard | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _LONGEST_HEAD:
                self._transport.close()
            return None
        head = bytes(self._buffer[:end])
        length = content_length(head)
        if length is None:  # a body in chunks, which no client of this protocol needs to send
            self._transport.write(error_reply(411, "a request needs a Content-Length").bytes())
            self._transport.close()
            return None
        whole = end + 4 + length
        if len(self._buffer) < whole:
            return None
        body = bytes(self._buffer[end + 4 : whole])
        del self._buffer[:whole]
        method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        return Heard(method, path, head, body)

    def _answer(self) -> None:
        reply, self._waiting, self._timer = self._waiting, None, None
        if reply is None:
            return
        wire = reply.bytes()
        half = len(wire) - len(reply.body) // 2
        if reply.ending in ("cut_body", "reset_within"):
            self._transport.write(wire[:half])
        elif reply.ending != "reset_before":
            self._transport.write(wire)
        reply.sent(True)
        if reply.ending in ("reset_before", "reset_within"):
            self._reset()
        elif reply.ending in ("cut_body", "hangs_up"):
            self._transport.close()
        else:
            self._take()

    def _reset(self) -> None:
        connection: socket.socket = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()


def content_length(head: bytes) -> int | None:
    """How many bytes of body follow this head; None where it does not say, and there is a body."""
    lower = head.lower()
    _, found, rest = lower.partition(b"\r\ncontent-length:")
    if found:
        value = rest.split(b"\r\n", 1)[0].strip()
        return int(value) if value.isdigit() else None
    return None if b"\r\ntransfer-encoding:" in lower else 0
