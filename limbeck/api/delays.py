"""How long a client waits before it asks again: doubling, with jitter, and never less than the server asked for."""

import random

FIRST_DELAY_SECONDS = 0.5  # doubled at every retry, with jitter (the schedule of OpenAI's own client)
LONGEST_DELAY_SECONDS = 30.0
LONGEST_RETRY_AFTER_SECONDS = 120.0  # a server that asks for an hour is asked again after two minutes
_DOUBLINGS = 10  # far beyond the longest delay


class Delays:
    """The waits of one client."""

    def __init__(self) -> None:
        self._jitter = random.Random()  # its own, so that waiting moves no other random choice

    def seconds(self, attempt: int, asked_seconds: float) -> float:
        """The wait after the attempt of that number, counted from 0; `asked_seconds` as `asked_for` says."""
        longest = min(FIRST_DELAY_SECONDS * 2.0 ** min(attempt, _DOUBLINGS), LONGEST_DELAY_SECONDS)
        return max(longest * self._jitter.uniform(0.5, 1.0), asked_seconds)


def asked_for(retry_after_seconds: float | None) -> float:
    """What a Retry-After asks for, within bounds; 0 where there is none."""
    return min(retry_after_seconds or 0.0, LONGEST_RETRY_AFTER_SECONDS)
