"""Log-probabilities that an earlier run computed, by key: one SQLite file, shared by all runs of a user.

It holds hashes and numbers, no text, and only ever saves time: where the file cannot be used, one sentence says so and
the run goes on without it. Each entry carries a checksum, so that a damaged one is computed again. SQLite's write-ahead
log (WAL) makes what is stored survive a kill, and lets runs share the file. Knows nothing of models.
"""

import hashlib
import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from limbeck.console import say

FILE_NAME = "reference_logps.sqlite"
# The oldest go first. An entry was measured to take 113 bytes, so this is about 230 MB.
KEPT_PAIRS = 2_000_000
BUSY_TIMEOUT_SECONDS = 30.0  # a write takes under a millisecond; 30 s outlasts a checkpoint on a slow disk
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS logps (age INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, entry BLOB NOT NULL)
"""
_GET = "SELECT entry FROM logps WHERE key = ?"
_PUT = "INSERT OR IGNORE INTO logps (key, entry) VALUES (?, ?)"
_DELETE = "DELETE FROM logps WHERE key = ?"
_PRUNE = "DELETE FROM logps WHERE age <= (SELECT MAX(age) FROM logps) - ?"

PairLogps = tuple[float, float]  # chosen, rejected


class LogpsCache:
    """(chosen, rejected) log-probabilities by key, exact to the last bit. Use as a context manager, in one thread.

    `problem`: why the file is not used, or no longer. `num_damaged`: entries that were found damaged and removed.
    """

    def __init__(self, path: Path, kept_pairs: int = KEPT_PAIRS) -> None:
        self.path, self.kept_pairs = path, kept_pairs
        self.problem: str | None = None
        self.num_damaged = 0
        self._database: sqlite3.Connection | None = None
        with self._or_without():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
            self._open(self._database)

    def _open(self, database: sqlite3.Connection) -> None:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError("it was written by another version of limbeck")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # safe against a kill; a power cut may lose the last rows
        database.execute(_SCHEMA)
        database.execute(f"PRAGMA user_version = {_VERSION}")

    def get(self, keys: Sequence[bytes]) -> dict[bytes, PairLogps]:
        """What is known of `keys`."""
        found: dict[bytes, PairLogps] = {}
        with self._or_without():
            for key in keys:
                entry = self._entry(key)
                if entry is not None:
                    found[key] = entry
        return found

    def _entry(self, key: bytes) -> PairLogps | None:
        row = self._database.execute(_GET, (key,)).fetchone() if self._database else None
        if row is None:
            return None
        values = _opened(key, row[0])
        if values is None and self._database:
            self.num_damaged += 1
            self._database.execute(_DELETE, (key,))
        return values

    def put(self, values: Mapping[bytes, PairLogps]) -> None:
        """Keep `values`, all or none; what is there already stays."""
        if self._database is None:
            return
        with self._or_without():
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(_PUT, [(key, _sealed(key, pair)) for key, pair in values.items()])
            self._database.execute(_PRUNE, (self.kept_pairs,))
            self._database.execute("COMMIT")

    def close(self) -> None:
        """Close the file; SQLite then folds its log back into it."""
        if self._database is not None:
            self._database.close()
            self._database = None

    @contextmanager
    def _or_without(self) -> Iterator[None]:
        # A cache is no reason to lose a run: whatever is wrong with the file, the numbers can be computed.
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self.problem = str(error)
            self.close()
            say(
                f"the cache of reference log-probabilities {self.path} cannot be used ({error}); this run goes on "
                "without it; if the file is damaged, delete it and those beside it that begin with its name"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sealed(key: bytes, values: PairLogps) -> bytes:
    # SQLite does not notice a flipped bit inside a number.
    packed = struct.pack("<2d", *values)
    return packed + hashlib.sha256(key + packed).digest()[:8]


def _opened(key: bytes, entry: object) -> PairLogps | None:
    if not isinstance(entry, bytes) or len(entry) != 24:
        return None
    chosen, rejected = struct.unpack("<2d", entry[:16])
    return (chosen, rejected) if entry == _sealed(key, (chosen, rejected)) else None
