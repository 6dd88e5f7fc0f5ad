"""Which batches are under way, kept in the reply store's file; each step is written before a kill could lose it.

A batch is `prepared` with its requests journaled and their worst cases set aside, `creating` from before the server is
told to run it, `open` once its id is known, and then `done`, or `dropped` where nothing was bought. Between `creating`
and `open` a batch may exist that nobody here knows the id of; the server knows it by its mark. Knows nothing of HTTP.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from limbeck.api.budget import Booked, Purse
from limbeck.api.reply_store import ReplyStore

State = Literal["prepared", "creating", "open", "done", "dropped"]
_TABLES = (
    """
CREATE TABLE IF NOT EXISTS batches (
    mark       TEXT PRIMARY KEY,
    server     TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('prepared', 'creating', 'open', 'done', 'dropped')),
    id         TEXT,
    stepped_at REAL NOT NULL
) WITHOUT ROWID
""",
    "CREATE TABLE IF NOT EXISTS batch_attempts (attempt INTEGER PRIMARY KEY, mark TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS batch_attempts_by_mark ON batch_attempts (mark)",
)
_UNFINISHED = """
SELECT mark, state, id, stepped_at FROM batches
WHERE server = ? AND state IN ('prepared', 'creating', 'open') ORDER BY stepped_at
"""
_ATTEMPTS = """
SELECT attempts.key, attempts.id FROM batch_attempts JOIN attempts ON attempts.id = batch_attempts.attempt
WHERE batch_attempts.mark = ? ORDER BY attempts.id
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the book has it. `stepped_at`: when it came into its state, in Unix seconds."""

    mark: str
    state: State
    id: str | None
    stepped_at: float
    attempts: Mapping[str, int]  # by key


class Entry(NamedTuple):
    """A request that is to go into a batch: its account, and the most tokens it can take."""

    account: Booked
    tokens_in: int
    tokens_out: int


class BatchBook:
    """The batches of one store. `now`: for tests."""

    def __init__(self, store: ReplyStore, now: Callable[[], float] = time.time) -> None:
        self._store, self._now = store, now
        with store.transaction() as database:
            for statement in _TABLES:
                database.execute(statement)

    def prepare(self, server: str, entries: Sequence[Entry], purse: Purse) -> Batch | None:
        """Journal as many of the requests as there is room for, in their order, as one batch; None where for none.

        Raises:
            BudgetError: the server took more than it may.
        """
        attempts: dict[str, int] = {}
        with self._store.transaction() as database:
            for entry in entries:
                attempt = purse.set_aside_at_once(entry.account, entry.tokens_in, entry.tokens_out)
                if attempt is None:
                    break
                attempts[entry.account.key] = attempt
            if not attempts:
                return None
            # Not a digest of the requests: those of a batch that expired are asked again in another one.
            mark, now = uuid.uuid4().hex, self._now()
            database.execute("INSERT INTO batches VALUES (?, ?, 'prepared', NULL, ?)", (mark, server, now))
            rows = [(attempt, mark) for attempt in attempts.values()]
            database.executemany("INSERT INTO batch_attempts VALUES (?, ?)", rows)
        return Batch(mark, "prepared", None, now, attempts)

    def unfinished(self, server: str) -> list[Batch]:
        """Every batch of this server that has not come to its end, the oldest first."""
        with self._store.transaction() as database:
            rows = database.execute(_UNFINISHED, (server,)).fetchall()
            return [
                Batch(mark, state, id, stepped_at, dict(database.execute(_ATTEMPTS, (mark,)).fetchall()))
                for mark, state, id, stepped_at in rows
            ]

    def step(self, batch: Batch, state: State, id: str | None = None) -> Batch | None:
        """Bring a batch into another state; None where another run has done something else with it."""
        now = self._now()
        with self._store.transaction() as database:
            done = database.execute(
                "UPDATE batches SET state = ?, id = coalesce(?, id), stepped_at = ? "
                "WHERE mark = ? AND (state = ? OR state = ? AND id IS ?)",
                (state, id, now, batch.mark, batch.state, state, id or batch.id),
            )
        if not done.rowcount:
            return None
        return Batch(batch.mark, state, id or batch.id, now, batch.attempts)
