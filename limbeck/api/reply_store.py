"""The reply store: every reply that was paid for, keyed by everything that decides it. One SQLite file.

A request is journaled (state `sent`) before it goes out and becomes `done` with its raw reply before anybody parses it,
so after a kill at most what was in flight is sent again. Each attempt at it is booked too: its worst case until it is
settled, so that the books hold whenever the run dies. SQLite's write-ahead log (WAL) makes a committed row survive the
death of the process, and lets two runs share the file. Knows nothing of HTTP and nothing of what a reply means.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from limbeck.api.answers import Answer, Answered, Failed
from limbeck.errors import DiskFullError, RunFolderError
from limbeck.store import digest_json

FILE_NAME = "replies.sqlite"
# A killed run leaves its last replies in the log beside the file: who keeps the file must keep all three.
FILE_NAMES = (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm")
BUSY_TIMEOUT_SECONDS = 30.0  # a write takes under a millisecond; 30 s outlasts a checkpoint on a slow disk
_VERSION = 2
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
_BOOKS = (
    """
CREATE TABLE IF NOT EXISTS attempts (
    id           INTEGER PRIMARY KEY,
    key          TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('open', 'settled', 'lost')),
    sent_at      REAL NOT NULL,
    tokens_in    INTEGER NOT NULL,
    tokens_out   INTEGER NOT NULL,
    nano_dollars INTEGER NOT NULL,
    body         TEXT
)
""",
    # One row of sums, so that a reservation need not add up all attempts.
    "CREATE TABLE IF NOT EXISTS spent (one INTEGER PRIMARY KEY CHECK (one = 1), tokens INTEGER, nano_dollars INTEGER)",
    "INSERT OR IGNORE INTO spent VALUES (1, 0, 0)",
)
_RESERVE = """
UPDATE spent SET tokens = tokens + :tokens, nano_dollars = nano_dollars + :nano
WHERE (:most_tokens IS NULL OR tokens + :tokens <= :most_tokens)
  AND (:most_nano IS NULL OR nano_dollars + :nano <= :most_nano)
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
_ATTEMPT = """
INSERT INTO attempts (key, state, sent_at, tokens_in, tokens_out, nano_dollars) VALUES (?, 'open', ?, ?, ?, ?)
"""
_SETTLE = (
    "UPDATE attempts SET state = 'settled', tokens_in = ?, tokens_out = ?, nano_dollars = ?, body = ? WHERE id = ?"
)
_GET = """
SELECT failure, text, detail, finish_reason, tokens_in, tokens_out FROM replies WHERE key = ? AND state = 'done'
"""


def reply_key(identity: object) -> str:
    """The key of a reply: SHA-256 of the canonical JSON of everything that decides it."""
    return digest_json(identity)


class Limits(NamedTuple):
    """The most that may be spent; None: any amount."""

    tokens: int | None = None
    nano_dollars: int | None = None


class Cost(NamedTuple):
    """What an attempt costs, or at most can."""

    tokens_in: int = 0
    tokens_out: int = 0
    nano_dollars: int = 0

    @property
    def tokens(self) -> int:
        """Of prompt and reply."""
        return self.tokens_in + self.tokens_out


class Spent(NamedTuple):
    """What attempts cost, the worst cases of those that are not settled included."""

    tokens: int
    nano_dollars: int


_NOTHING = Cost()
_NO_LIMITS = Limits()


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
        if version not in (0, 1, _VERSION):
            raise RunFolderError(f"{self.path} was written by another version of limbeck; move it away and run again")
        self._database.execute(_SCHEMA)
        for statement in _BOOKS:  # version 1 had none
            self._database.execute(statement)
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

    def begin(
        self, key: str, kind: str, request: str, worst: Cost = _NOTHING, limits: Limits = _NO_LIMITS
    ) -> int | None:
        """Note that `request` (JSON, no secrets) is about to be sent, and set its worst case aside; before it leaves.

        Returns the attempt's number, or None where that would exceed `limits`: nothing is noted then.
        """
        asked = {"tokens": worst.tokens, "nano": worst.nano_dollars, "most_tokens": limits[0], "most_nano": limits[1]}
        with self.transaction() as database:
            if not database.execute(_RESERVE, asked).rowcount:
                return None
            now = time.time()
            database.execute(_JOURNAL, (key, kind, request, now))
            return database.execute(_ATTEMPT, (key, now, *worst)).lastrowid

    def settle(self, attempt: int, cost: Cost, body: str = "") -> bool:
        """Keep the server's answer as it came, and book its cost instead of the worst case; False where it is more."""
        with self.transaction() as database:
            worst = self.booked(attempt)
            database.execute(_SETTLE, (*cost, body, attempt))
            more = (cost.tokens - worst.tokens, cost.nano_dollars - worst.nano_dollars)
            database.execute("UPDATE spent SET tokens = tokens + ?, nano_dollars = nano_dollars + ?", more)
        return cost.tokens_in <= worst.tokens_in and cost.tokens_out <= worst.tokens_out

    def booked(self, attempt: int) -> Cost:
        """What an attempt costs as far as is known: its worst case until it is settled."""
        asked = "SELECT tokens_in, tokens_out, nano_dollars FROM attempts WHERE id = ?"
        with _sqlite_errors(self.path):
            return Cost(*self._database.execute(asked, (attempt,)).fetchone())

    def lose(self, attempt: int, body: str = "") -> None:
        """Give the attempt up; it may have been paid for, so its worst case stays booked."""
        with _sqlite_errors(self.path):
            self._database.execute("UPDATE attempts SET state = 'lost', body = ? WHERE id = ?", (body, attempt))

    def spent(self) -> Spent:
        """What all attempts cost together, in this run and in earlier ones."""
        with _sqlite_errors(self.path):
            return Spent(*self._database.execute("SELECT tokens, nano_dollars FROM spent").fetchone())

    def cost_by_key(self) -> dict[str, int]:
        """Nano-dollars by key: of all attempts at it, the worst cases of those that are not settled included."""
        with _sqlite_errors(self.path):
            rows = self._database.execute("SELECT key, SUM(nano_dollars) FROM attempts GROUP BY key").fetchall()
        return {str(key): int(nano) for key, nano in rows}

    def attempts(self) -> dict[str, int]:
        """How many attempts are `open` (in flight, or were when a run was killed), `settled` and `lost`."""
        with _sqlite_errors(self.path):
            rows = self._database.execute("SELECT state, COUNT(*) FROM attempts GROUP BY state").fetchall()
        return {str(state): int(count) for state, count in rows}

    def bodies(self, key: str) -> list[str]:
        """What the server sent for `key`, as it came, attempt by attempt."""
        with _sqlite_errors(self.path):
            rows = self._database.execute("SELECT body FROM attempts WHERE key = ? ORDER BY id", (key,)).fetchall()
        return [str(body) for (body,) in rows if body is not None]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, of what is written inside; one within another is part of it."""
        if self._database.in_transaction:
            yield self._database
            return
        with _sqlite_errors(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def finish(self, key: str, answer: Answer) -> None:
        """Keep the answer of a journaled key. The first one stays; after a failure of transport it is asked again."""
        failure = answer.reason if isinstance(answer, Failed) else None
        state = "failed" if isinstance(answer, Failed) and not answer.about_the_reply else "done"
        detail = answer.detail if isinstance(answer, Failed) else ""
        finish_reason = answer.finish_reason if isinstance(answer, Answered) else None
        values = (state, failure, answer.text, detail, finish_reason, answer.tokens_in, answer.tokens_out)
        with _sqlite_errors(self.path):
            self._database.execute(_FINISH, (*values, key))

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
