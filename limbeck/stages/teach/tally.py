"""What came of the requests: failures by kind and reason, tokens, what was sent, what was asked again. Counts only."""

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from typing import NamedTuple

from limbeck.api.answers import WORTH_ASKING_AGAIN, Answer, Failed
from limbeck.errors import UsedUpError


class _Tokens(NamedTuple):
    role: str
    tokens_in: int
    tokens_out: int


@dataclass(slots=True)
class Tally:
    """The stage's counts. A reply that serves two kinds is counted once, by its key."""

    drops: dict[str, Counter[str]] = field(default_factory=dict)  # by kind, then reason
    unanswered: Counter[str] = field(default_factory=Counter)
    used_up: dict[str, UsedUpError] = field(default_factory=dict)  # by kind: what its last request had no room in
    requests: int = 0
    sent: Counter[str] = field(default_factory=Counter)  # by key
    reasks: int = 0
    reasks_that_helped: int = 0
    details: dict[str, str] = field(default_factory=dict)
    _spent: dict[str, _Tokens] = field(default_factory=dict)  # by key

    def drop(self, kind: str, reason: str) -> None:
        """Count something of `kind` that came to nothing."""
        self.drops.setdefault(kind, Counter())[reason] += 1

    def fail(self, kind: str, failure: Failed) -> None:
        """Count a request without a usable reply, and keep one of the server's sentences for it."""
        self.drop(kind, failure.reason)
        if failure.reason in WORTH_ASKING_AGAIN:
            self.unanswered[kind] += 1
        if failure.detail:
            self.details.setdefault(f"{kind}: {failure.reason}", failure.detail)

    def spend(self, key: str, role: str, answer: Answer) -> None:
        """Note the tokens of a reply; `role` is who was asked."""
        self._spent[key] = _Tokens(role, answer.tokens_in, answer.tokens_out)

    def keys(self) -> Set[str]:
        """The replies that served, by their keys in the store."""
        return self._spent.keys()

    def dropped(self, kind: str, reason: str) -> int:
        """How many of `kind` came to nothing for `reason`."""
        return self.drops.get(kind, Counter())[reason]

    def all_drops(self) -> dict[str, int]:
        """Every count as `kind: reason`, in order."""
        flat = {f"{kind}: {why}": number for kind, reasons in self.drops.items() for why, number in reasons.items()}
        return dict(sorted(flat.items()))

    def tokens(self) -> dict[str, int]:
        """Tokens of replies sent for in this run, by who was asked, and of those that the store had before."""
        total: Counter[str] = Counter()
        for key, (role, tokens_in, tokens_out) in self._spent.items():
            name = role if key in self.sent else "from_store"
            total.update({f"{name}_in": tokens_in, f"{name}_out": tokens_out})
        return {name: count for name, count in sorted(total.items()) if count}

    def example(self, kind: str, reasons: Set[str]) -> str:
        """One of the server's own sentences for such a failure, in brackets."""
        said = [self.details[f"{kind}: {reason}"] for reason in sorted(reasons) if f"{kind}: {reason}" in self.details]
        return f" ({said[0]})" if said else ""
