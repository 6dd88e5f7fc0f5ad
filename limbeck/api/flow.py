"""How fast one server is asked: requests in flight that adapt to its answers, limits a minute, pauses it asks for.

Requests in flight grow while answers are good, by one an answer until the first push-back and by one a round from then
on, and are halved where the server pushes back (429, 503, no reply in time): additive increase, multiplicative decrease
(Chiu and Jain 1989). A fault (another 5xx, a lost connection, a damaged reply) takes a tenth: of thousands of requests
some fail by chance, and halving each time would leave few in flight. Limits hold in any 60 seconds, not in calendar
minutes. Knows nothing of HTTP.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

_WINDOW_SECONDS = 60.0
_STILL_SECONDS = 1.0
_NO_ROOM, _FAULT = 0.5, 0.9  # of what is in flight stays
_FIRST_IN_FLIGHT = 8  # what a new key of any provider allows


class Turn:
    """One request's turn. `tokens` may be corrected once the server has counted them."""

    def __init__(self, flow: "Flow", entry: "_Entry", generation: int) -> None:
        self._flow, self._entry, self._generation = flow, entry, generation

    async def confirm(self) -> None:
        """See, after waiting for something else, that this is still the time to send; or wait for it again."""
        self._entry = await self._flow.confirmed(self._entry)

    def good(self, tokens: int = 0) -> None:
        """The server answered; it counted `tokens` (0: it did not say)."""
        self._flow.grow()
        if tokens:
            self._flow.correct(self._entry, tokens)

    def pushed_back(self) -> None:
        """The server had no room (429, 503, no reply in time). What was in flight together counts as one push-back."""
        self._flow.shrink(self._generation, _NO_ROOM)

    def failed(self) -> None:
        """The server or the line failed: it may be overload, and may be chance."""
        self._flow.shrink(self._generation, _FAULT)


class Flow:
    """Turns for one server. `most` in flight; limits a minute where there are any. `sleep` and `clock`: for tests."""

    def __init__(
        self,
        most: int,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.in_flight_limit = float(min(most, _FIRST_IN_FLIGHT))
        self.in_flight = 0
        self._most, self._sleep, self._clock = most, sleep, clock
        self._starting = True
        self._generation = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._window = _Window(requests_per_minute, tokens_per_minute)
        self._paused_until = 0.0

    @asynccontextmanager
    async def turn(self, tokens: float, waited_for: float = 0.0) -> AsyncIterator[Turn]:
        """Wait for a place among those in flight, for the limits, and for pauses; `tokens`: about what it will count.

        `waited_for`: what `pause` returned, where that pause was sat out already.
        """
        while self.in_flight >= int(self.in_flight_limit):
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            await place
        self.in_flight += 1
        try:
            entry = await self._start(tokens, waited_for)
            yield Turn(self, entry, self._generation)
        finally:
            self.in_flight -= 1
            self._wake()

    def pause(self, seconds: float) -> float:
        """Send nothing for `seconds`; returns a mark to hand to `turn`, which a longer pause outlasts."""
        mark = self._clock() + seconds
        self._paused_until = max(self._paused_until, mark)
        return mark

    def restart(self) -> None:
        """Forget who waits and what is in flight: both belong to an event loop that has ended. Limits stay."""
        self._waiting.clear()
        self.in_flight = 0

    def grow(self) -> None:
        """Take note of a good answer."""
        step = 1.0 if self._starting else 1.0 / self.in_flight_limit
        self.in_flight_limit = min(self.in_flight_limit + step, float(self._most))
        self._wake()

    def shrink(self, generation: int, share: float) -> None:
        """Leave `share` of what may be in flight, after a push-back on a request of that generation."""
        if generation == self._generation:
            self._generation += 1
            self._starting = False
            self.in_flight_limit = max(self.in_flight_limit * share, 1.0)

    async def confirmed(self, entry: "_Entry") -> "_Entry":
        """The entry itself where its time is now; where it has passed, another, waited for."""
        if self._clock() - entry.start <= _STILL_SECONDS:
            return entry
        tokens = entry.tokens
        self._window.correct(entry, 0)
        return await self._start(tokens, 0.0)

    def correct(self, entry: "_Entry", tokens: int) -> None:
        """Replace an estimate by what the server counted."""
        self._window.correct(entry, tokens)

    async def _start(self, tokens: float, waited_for: float) -> "_Entry":
        while True:
            while self._paused_until > waited_for:  # another pause may be asked for during this one
                waited_for = self._paused_until
                await self._until(waited_for)
            entry = self._window.enter(self._clock(), tokens)
            await self._until(entry.start)
            if self._paused_until <= waited_for:
                return entry
            self._window.correct(entry, 0)  # its time has passed in a pause; it gets another

    async def _until(self, time: float) -> None:
        if (left := time - self._clock()) > 0:
            await self._sleep(left)

    def _wake(self) -> None:
        free = int(self.in_flight_limit) - self.in_flight
        while free > 0 and self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                free -= 1


@dataclass(slots=True)
class _Entry:
    """One request: from when on it is allowed, and its tokens; `counts` while that is less than a minute ago."""

    start: float
    tokens: float
    counts: bool = True


class _Window:
    """Requests and tokens of the last 60 seconds, kept within limits by giving each request the time of its start."""

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        self._most_requests, self._most_tokens = requests or math.inf, tokens or math.inf
        self._entries: deque[_Entry] = deque()  # starts never fall
        self._tokens = 0.0

    def enter(self, now: float, tokens: float) -> _Entry:
        """The entry of a request of so many tokens. One that is larger than the limit itself goes alone."""
        entry = _Entry(max(now, self._entries[-1].start if self._entries else now), tokens)
        while self._entries and (self._is_full(tokens) or self._entries[0].start + _WINDOW_SECONDS <= entry.start):
            first = self._entries.popleft()
            first.counts = False
            self._tokens -= first.tokens
            entry.start = max(entry.start, first.start + _WINDOW_SECONDS)
        self._entries.append(entry)
        self._tokens += tokens
        return entry

    def correct(self, entry: _Entry, tokens: float) -> None:
        """Replace an entry's tokens."""
        if entry.counts:
            self._tokens += tokens - entry.tokens
            entry.tokens = tokens

    def _is_full(self, tokens: float) -> bool:
        return len(self._entries) >= self._most_requests or self._tokens + tokens > self._most_tokens
