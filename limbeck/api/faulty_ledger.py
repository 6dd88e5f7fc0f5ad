"""The ledger of a faulty server: every request it received, by key, and what it answered. Tests hold it to be true."""

import hashlib
import re
import time
from collections import Counter, deque
from dataclasses import replace
from functools import partial

from limbeck.api.faults import Arrival, Fate, Faults, How, Tally, fate
from limbeck.api.faulty_http import Reply
from limbeck.api.faulty_replies import Written

_MARK = re.compile(rb"\[\[key:([\w.\-]{1,80})\]\]")


def marked(key: str) -> str:
    """The mark that a test puts into a message, by which the server knows a request again."""
    return f"[[key:{key}]]"


def key_of(body: bytes) -> str:
    """The key of a request: its mark, or else a digest of its whole body."""
    found = _MARK.search(body)
    return found[1].decode() if found else hashlib.sha256(body).hexdigest()[:16]


class Ledger:
    """Notes arrivals and departures; decides on the fate of each arrival."""

    def __init__(self, faults: Faults) -> None:
        self.connections = 0
        self._faults = faults
        self._arrivals: dict[str, list[Arrival]] = {}
        self._waiting: Counter[str] = Counter()
        self._number = self._at_once = self._most_at_once = 0
        self._tokens_in = self._tokens_out = 0
        self._minute: deque[float] = deque()

    def arrive(self, key: str) -> tuple[Fate, int]:
        """Decide what an arrival meets, and as which of all it came."""
        number, self._number = self._number, self._number + 1
        met = fate(self._faults, key, len(self._arrivals.get(key, ())), number)
        return (met._replace(how="rate_limited") if self._over_limits() else met), number

    def note(self, key: str, how: How, written: Written, *, batch: bool = False) -> Reply:
        """Enter an arrival with its reply, which is handed back so that its departure is noted too."""
        arrivals = self._arrivals.setdefault(key, [])
        arrivals.append(Arrival(how=how, batch=batch))
        self._tokens_in += written.tokens_in
        self._tokens_out += written.tokens_out
        if batch:
            return written.reply
        self._at_once += 1
        self._waiting[key] += 1
        self._most_at_once = max(self._most_at_once, self._at_once)
        return replace(written.reply, sent=partial(self._leave, key, len(arrivals) - 1))

    def tally(self) -> Tally:
        """All that is known by now."""
        return Tally(
            arrivals={key: tuple(arrivals) for key, arrivals in self._arrivals.items()},
            waiting=tuple(self._waiting.elements()),
            most_at_once=self._most_at_once,
            connections=self.connections,
            tokens_in=self._tokens_in,
            tokens_out=self._tokens_out,
            cpu_seconds=time.process_time(),
        )

    def _leave(self, key: str, place: int, reached: bool) -> None:
        self._at_once -= 1
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]
        if not reached:
            arrivals = self._arrivals[key]
            arrivals[place] = arrivals[place].model_copy(update={"gone": True})

    def _over_limits(self) -> bool:
        faults = self._faults
        if faults.capacity is not None and self._at_once >= faults.capacity:
            return True
        if faults.requests_per_minute is None:
            return False
        now = time.monotonic()
        while self._minute and self._minute[0] <= now - 60:
            self._minute.popleft()
        if len(self._minute) >= faults.requests_per_minute:
            return True
        self._minute.append(now)
        return False
