"""What a faulty server does to which request: shares, a seed, and what came of it. Pure: `faulty_server` acts.

What happens to the nth arrival of a request depends on the seed, on what is asked and on n, and not on what else is
under way: two runs against the same plan meet the same faults, whatever order they ask in. Only bursts of 429 are of
the server as a whole: of `burst` arrivals in a row, whoever they are from.
"""

import math
import random
from collections import Counter
from typing import Annotated, Literal, NamedTuple, Self, get_args

from pydantic import Field, model_validator

from limbeck.records import Record

Fault = Literal[
    "rate_limited",  # 429, in bursts
    "server_error",  # 500, 502 or 503
    "reset_before",  # the connection is reset and nothing sent
    "reset_within",  # it is reset in the middle of the reply
    "cut_body",  # a body shorter than its Content-Length
    "malformed_json",  # 200, and a body that is no JSON
    "no_choices",  # 200 without choices
    "hang",  # no reply at all, until the client gives up
    "empty",  # a reply without text
    "content_filter",  # the provider's filter: as a 200 or as a 400
    "refused",  # the model declines
    "truncated",  # finish_reason "length"
    "overlong",  # a reply beyond max_tokens, and counted so
    "hangs_up",  # a good reply, and a connection closed afterwards without a word
]
How = Literal["answered", "bad_request"] | Fault
FAULTS: tuple[Fault, ...] = get_args(Fault)
# After these a client has reason to ask again; after all others it has its answer, good or bad.
PASSING: frozenset[str] = frozenset(FAULTS[:8])
_Share = Annotated[float, Field(ge=0, le=1)]
_Seconds = Annotated[float, Field(ge=0)]


class BatchPlan(Record):
    """What becomes of batches: the nth one meets the nth of `fates`, the last of them again and again."""

    polls: Annotated[int, Field(ge=1)] = 3  # looks at a batch until it has ended
    fates: tuple[Literal["completed", "expired", "cancelled", "failed"], ...] = ("completed",)
    failing: _Share = 0.0  # of the lines: they fail alone, into the file of errors
    done: _Share = 0.5  # of the lines of a batch that expires or is cancelled: they were answered before
    unsteady: _Share = 0.0  # of the requests to these endpoints: 503, or carried out and the reply lost


class Faults(Record):
    """Shares of the arrivals that meet each fault (the rest is answered), and how a good answer looks.

    `latency_seconds`: the range of a reply's delay, drawn uniformly; `reply_tokens`: of its length.
    """

    seed: int = 1
    latency_seconds: tuple[_Seconds, _Seconds] = (0.005, 0.02)
    reply_tokens: tuple[int, int] = (40, 120)
    shares: dict[Fault, _Share] = {}
    burst: Annotated[int, Field(ge=1)] = 8
    retry_after: tuple[Literal["none", "seconds", "date"], ...] = ("none", "seconds", "date")  # a burst has one of them
    retry_after_seconds: Annotated[int, Field(ge=0)] = 1
    capacity: Annotated[int, Field(ge=1)] | None = None  # requests at once; more get 429
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None  # more get 429
    models: tuple[str, ...] = ("faulty-1",)
    batches: BatchPlan = BatchPlan()

    @model_validator(mode="after")
    def _at_most_all(self) -> Self:
        if sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError("the shares of all faults together exceed 1")
        return self

    @classmethod
    def spread(cls, share: float, seed: int = 1, **settings: object) -> Self:
        """A share of the arrivals, spread evenly over every kind of fault."""
        shares = dict.fromkeys(FAULTS, share / len(FAULTS))
        return cls.model_validate({"seed": seed, "shares": shares, **settings})


class Fate(NamedTuple):
    """What happens to one arrival. `dice` decides the rest: which status, which words."""

    how: How
    latency_seconds: float
    tokens: int
    dice: random.Random


def fate(faults: Faults, key: str, nth: int, number: int) -> Fate:
    """The fate of the `nth` arrival of `key` (from 0), which is the `number`th of all (from 0)."""
    dice = random.Random(f"{faults.seed}:{key}:{nth}")
    latency, tokens, point = dice.uniform(*faults.latency_seconds), dice.randint(*faults.reply_tokens), dice.random()
    how = _how(faults, point)
    if in_burst(faults, number):
        how = "rate_limited"
    return Fate(how, latency, tokens, dice)


def in_burst(faults: Faults, number: int) -> bool:
    """Whether the `number`th arrival of all falls into a burst of 429."""
    share = faults.shares.get("rate_limited", 0.0)
    return share > 0 and _burst_dice(faults, number).random() < share


def retry_after_kind(faults: Faults, number: int) -> Literal["none", "seconds", "date"]:
    """Which form of Retry-After a burst sends: one form a burst, since it comes from one cause."""
    dice = _burst_dice(faults, number)
    dice.random()
    return dice.choice(faults.retry_after)


def _burst_dice(faults: Faults, number: int) -> random.Random:
    return random.Random(f"{faults.seed}:burst:{number // faults.burst}")


def _how(faults: Faults, point: float) -> How:
    for fault, share in faults.shares.items():
        if fault != "rate_limited":
            if point < share:
                return fault
            point -= share
    return "answered"


class Arrival(Record):
    """One request as it came in. `gone`: its client had left before the reply was sent."""

    how: How
    gone: bool = False
    batch: bool = False

    @property
    def worth_asking_again(self) -> bool:
        """Whether its client has reason to ask again."""
        return self.gone or self.how in PASSING


class Tally(Record):
    """All that came in, by key, in order: what a client's own account is held against.

    Tokens are those a provider would charge: of every reply that was written, whether it arrived or not.
    """

    arrivals: dict[str, tuple[Arrival, ...]] = {}
    waiting: tuple[str, ...] = ()  # keys that have no reply yet
    most_at_once: int = 0
    connections: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cpu_seconds: float = 0.0  # of the server's process

    @property
    def requests(self) -> int:
        """All arrivals."""
        return sum(map(len, self.arrivals.values()))

    @property
    def by_how(self) -> dict[str, int]:
        """Arrivals by what came of them."""
        return dict(Counter(arrival.how for arrivals in self.arrivals.values() for arrival in arrivals))

    @property
    def resends(self) -> int:
        """Arrivals of keys that had come before."""
        return self.requests - len(self.arrivals)

    @property
    def resends_beyond_faults(self) -> int:
        """Arrivals of a key although the one before was answered, and its client there to read it: bought twice."""
        before = (arrival for arrivals in self.arrivals.values() for arrival in arrivals[:-1])
        return sum(not arrival.worth_asking_again for arrival in before)


def charged_tokens(text_characters: int) -> int:
    """Tokens of a text as the faulty server counts them: four characters each, rounded up."""
    return math.ceil(text_characters / 4)
