"""The reply store: every reply that was paid for, keyed by everything that decides it. One SQLite file.

A request is journaled (state `sent`) before it goes out and becomes `done` with its raw reply before anybody parses it,
so after a kill at most what was in flight is sent again. SQLite's write-ahead log (WAL) makes a committed row survive
the death of the process, and lets two runs share the file. Knows nothing of HTTP and nothing of what a reply means.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from limbeck.api.answers import Answer, Answered, Failed
from limbeck.errors import DiskFullError, RunFolderError
from limbeck.store import digest_json

FILE_NAME = "replies.sqlite"
# A killed run leaves its last replies in the log beside the file: who keeps the file must keep all three.
FILE_NAMES = (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm")
BUSY_TIMEOUT_SECONDS = 30.0  # a write takes under a millisecond; 30 s outlasts a checkpoint on a slow disk
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key           TEXT PRIMARY KEY,
    state         TEXT NOT NULL CHECK (state IN ('sent', 'done', 'failed')),
    kind          TEXT NOT NULL,
    request       TEXT NOT NULL,
    times_sent    INTEGER NOT NULL,
    sent_at       REAL NOT NULL,
    failure       TEXT,
    text          TEXT,
    detail        TEXT,
    finish_reason TEXT,
    tokens_in     INTEGER,
    tokens_out    INTEGER
) WITHOUT ROWID
"""
_JOURNAL = """
INSERT INTO replies (key, state, kind, request, times_sent, sent_at) VALUES (?, 'sent', ?, ?, 1, ?)
ON CONFLICT (key) DO UPDATE SET state = 'sent', times_sent = times_sent + 1, sent_at = excluded.sent_at
WHERE state <> 'done'
"""
_FINISH = """
UPDATE replies SET state = ?, failure = ?, text = ?, detail = ?, finish_reason = ?, tokens_in = ?, tokens_out = ?
WHERE key = ? AND state <> 'done'
"""
_GET = """
SELECT failure, text, detail, finish_reason, tokens_in, tokens_out FROM replies WHERE key = ? AND state = 'done'
"""


def reply_key(identity: object) -> str:
    """The key of a reply: SHA-256 of the canonical JSON of everything that decides it."""
    return digest_json(identity)


class ReplyStore:
    """Raw replies by key. Use as a context manager, in one thread; processes may share the file.

    Raises:
        RunFolderError: the file is not a reply store, is of another version, or is locked by another run for too long.
        DiskFullError: nothing more can be written; what was stored stays.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        with _sqlite_errors(path):
            self._database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
        try:
            with _sqlite_errors(path):
                self._open()
        except (RunFolderError, DiskFullError):
            self._database.close()
            raise

    def _open(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")  # safe against a kill; a power cut may lose the last rows
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise RunFolderError(f"{self.path} was written by another version of limbeck; move it away and run again")
        self._database.execute(_SCHEMA)
        self._database.execute(f"PRAGMA user_version = {_VERSION}")

    def get(self, key: str) -> Answer | None:
        """Return the stored answer for `key`, or None where none is finished."""
        with _sqlite_errors(self.path):
            row = self._database.execute(_GET, (key,)).fetchone()
        if row is None:
            return None
        failure, text, detail, finish_reason, tokens_in, tokens_out = row
        if failure is not None:
            return Failed(reason=failure, text=text, detail=detail, tokens_in=tokens_in, tokens_out=tokens_out)
        return Answered(text=text, finish_reason=finish_reason, tokens_in=tokens_in, tokens_out=tokens_out)

    def journal(self, key: str, kind: str, request: str) -> None:
        """Note that `request` (JSON, no secrets) is about to be sent. To be called before anything leaves."""
        with _sqlite_errors(self.path):
            self._database.execute(_JOURNAL, (key, kind, request, time.time()))

    def finish(self, key: str, answer: Answer) -> None:
        """Keep the answer of a journaled key. The first one stays; after a failure of transport it is asked again."""
        failure = answer.reason if isinstance(answer, Failed) else None
        state = "failed" if isinstance(answer, Failed) and not answer.about_the_reply else "done"
        detail = answer.detail if isinstance(answer, Failed) else ""
        finish_reason = answer.finish_reason if isinstance(answer, Answered) else None
        values = (state, failure, answer.text, detail, finish_reason, answer.tokens_in, answer.tokens_out, key)
        with _sqlite_errors(self.path):
            self._database.execute(_FINISH, values)

    def states(self) -> dict[str, int]:
        """How many requests are `sent` (in flight, or were when a run was killed), `done` and `failed`."""
        with _sqlite_errors(self.path):
            rows = self._database.execute("SELECT state, COUNT(*) FROM replies GROUP BY state").fetchall()
        return {str(state): int(count) for state, count in rows}

    def times_sent(self) -> dict[str, int]:
        """How often each key was sent."""
        with _sqlite_errors(self.path):
            rows = self._database.execute("SELECT key, times_sent FROM replies").fetchall()
        return {str(key): int(count) for key, count in rows}

    def close(self) -> None:
        """Close the file; SQLite then folds its log back into it."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise DiskFullError(
                f"the disk that holds {path} is full; free some space and run the same command again: "
                "the replies stored before are kept"
            ) from error
        raise RunFolderError(
            f"the reply store {path} cannot be used ({error}); is another run using it, or is it damaged?"
        ) from error
