"""Which batches are under way, kept in the reply store's file; each step is written before a kill could lose it.

A batch is `prepared` with its requests journaled and their worst cases set aside, `creating` from before the server is
told to run it, `open` once its id is known, and then `done`, or `dropped` where nothing was bought. Between `creating`
and `open` a batch may exist that nobody here knows the id of; the server knows it by its mark. Knows nothing of HTTP.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from limbeck.api.batch_wire import LONGEST_BATCH_SECONDS
from limbeck.api.budget import Booked, Purse
from limbeck.api.prices import Price
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
    # Dollars for a million tokens, as they were when the batch was sent.
    "CREATE TABLE IF NOT EXISTS batch_prices (mark TEXT PRIMARY KEY, input REAL NOT NULL, output REAL NOT NULL)",
)
_BATCHES = "SELECT mark, state, id, stepped_at, input, output FROM batches LEFT JOIN batch_prices USING (mark) "
_UNFINISHED = f"{_BATCHES} WHERE server = ? AND state IN ('prepared', 'creating', 'open') ORDER BY stepped_at"
_WAITED_FOR = """
SELECT attempts.key FROM batches JOIN batch_attempts USING (mark)
JOIN attempts ON attempts.id = batch_attempts.attempt
WHERE batches.state IN ('prepared', 'creating', 'open') AND stepped_at > ?
"""
# Without an id only who saw the last step may make the next one: a live run steps again before each attempt.
_STEP = """
UPDATE batches SET state = :to, id = coalesce(:id, id), stepped_at = :now
WHERE mark = :mark AND (state = :from AND (stepped_at = :seen OR id = :id) OR state = :to AND id = :id)
"""
_ATTEMPTS = """
SELECT attempts.key, attempts.id FROM batch_attempts JOIN attempts ON attempts.id = batch_attempts.attempt
WHERE batch_attempts.mark = ? ORDER BY attempts.id
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the book has it. `stepped_at`: when it came into its state, in Unix seconds; `price`: as it was sent.

    Without a price it was sent where none was known.
    """

    mark: str
    state: State
    id: str | None
    stepped_at: float
    attempts: Mapping[str, int]  # by key
    price: Price | None = None


class Entry(NamedTuple):
    """A request that is to go into a batch: its account, and the most tokens it can take."""

    account: Booked
    tokens_in: int
    tokens_out: int


class Prepared(NamedTuple):
    """What became of the first `seen` of the requests that were to go into a batch; the next had no room, if `full`.

    `done`: keys that another run has got answers to since; `elsewhere`: other runs' batches that have some of them.
    """

    batch: Batch | None
    done: list[str]
    elsewhere: list[Batch]
    seen: int
    full: bool


class BatchBook:
    """The batches of one store. `now`: for tests."""

    def __init__(self, store: ReplyStore, now: Callable[[], float] = time.time) -> None:
        self._store, self._now = store, now
        with store.transaction() as database:
            for statement in _TABLES:
                database.execute(statement)

    def prepare(self, server: str, entries: Sequence[Entry], purse: Purse, price: Price | None = None) -> Prepared:
        """Journal as many of the requests as there is room for, in their order, as one batch at this price.

        What another run has asked in the meantime is left out.

        Raises:
            BudgetError: the server took more than it may.
        """
        attempts: dict[str, int] = {}
        done: list[str] = []
        elsewhere: dict[str, Batch] = {}
        with self._store.transaction():
            others = {key: batch for batch in self.unfinished(server) for key in batch.attempts}
            for entry in entries:
                key = entry.account.key
                if self._store.get(key) is not None:
                    done.append(key)
                elif key in others:
                    elsewhere[key] = others[key]
                else:
                    attempt = purse.set_aside_at_once(entry.account, entry.tokens_in, entry.tokens_out)
                    if attempt is None:
                        break
                    attempts[key] = attempt
            batch = self._new(server, attempts, price) if attempts else None
        seen = len(attempts) + len(done) + len(elsewhere)
        batches = list({other.mark: other for other in elsewhere.values()}.values())
        return Prepared(batch, done, batches, seen, full=seen < len(entries))

    def _new(self, server: str, attempts: Mapping[str, int], price: Price | None) -> Batch:
        # Not a digest of the requests: those of a batch that expired are asked again in another one.
        mark, now = uuid.uuid4().hex, self._now()
        with self._store.transaction() as database:
            database.execute("INSERT INTO batches VALUES (?, ?, 'prepared', NULL, ?)", (mark, server, now))
            rows = [(attempt, mark) for attempt in attempts.values()]
            database.executemany("INSERT INTO batch_attempts VALUES (?, ?)", rows)
            if price is not None:
                database.execute("INSERT INTO batch_prices VALUES (?, ?, ?)", (mark, price.input, price.output))
        return Batch(mark, "prepared", None, now, attempts, price)

    def unfinished(self, server: str) -> list[Batch]:
        """Every batch of this server that has not come to its end, the oldest first."""
        return self._read(_UNFINISHED, server)

    def read(self, batch: Batch) -> Batch:
        """The same batch as it stands now."""
        return self._read(f"{_BATCHES} WHERE mark = ?", batch.mark)[0]

    def _read(self, query: str, value: str) -> list[Batch]:
        with self._store.transaction() as database:
            rows = database.execute(query, (value,)).fetchall()
            attempts = [dict(database.execute(_ATTEMPTS, row[:1]).fetchall()) for row in rows]
        batches = []
        for (mark, state, id, stepped_at, dollars_in, dollars_out), of in zip(rows, attempts, strict=True):
            price = None if dollars_in is None else Price(input=dollars_in, output=dollars_out)
            batches.append(Batch(mark, state, id, stepped_at, of, price))
        return batches

    def count_waited_for(self, keys: Iterable[str]) -> int:
        """How many of these requests have no answer, and may yet get one from a batch."""
        with self._store.transaction() as database:
            rows = database.execute(_WAITED_FOR, (self._now() - LONGEST_BATCH_SECONDS,)).fetchall()
        waited_for = {key for (key,) in rows}
        return sum(self._store.get(key) is None for key in waited_for.intersection(keys))

    def step(self, batch: Batch, state: State, id: str | None = None) -> Batch | None:
        """Bring a batch into another state; None where another run has done something else with it."""
        now, id = self._now(), id or batch.id
        values = {"to": state, "id": id, "now": now, "mark": batch.mark, "from": batch.state, "seen": batch.stepped_at}
        with self._store.transaction() as database:
            done = database.execute(_STEP, values)
        return replace(batch, state=state, id=id, stepped_at=now) if done.rowcount else None
