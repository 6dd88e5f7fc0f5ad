"""When a kind has enough pairs: ask in rounds, count what screening would keep, stop at the goal or the end of it all.

Knows nothing of teachers: whoever makes pairs is a `Maker`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from limbeck.records import Pair
from limbeck.screening import Screening

OUT_OF_PROMPTS = "no prompt left"
OUT_OF_CANDIDATES = "max_candidates tried"
OUT_OF_BUDGET = "budget used up"


class Maker(Protocol):
    """Makes the pairs of one kind, one candidate after the other, in an order that the seed alone decides."""

    def make(self, number: int) -> list[Pair | None]:
        """Try the next `number` candidates; None for one that came to nothing. Fewer: there are no more."""


@dataclass(slots=True)
class Collected:
    """What was made of one kind: every pair, those accepted, and why others were not.

    `exhausted`: why it is fewer than were to be accepted; None where it is enough.
    """

    pairs: list[Pair] = field(default_factory=list)
    accepted: list[Pair] = field(default_factory=list)
    candidates: int = 0
    exhausted: str | None = None
    screened_out: Counter[str] = field(default_factory=Counter)

    def take(self, pairs: Sequence[Pair], screening: Screening) -> None:
        """Add pairs, those that screening would keep to the accepted ones."""
        screening.prepare(pairs)
        for pair in pairs:
            self.pairs.append(pair)
            judged = screening.judge(pair)
            if judged.reason is None:
                self.accepted.append(judged.pair)  # as it is trained on: screening may exchange its sides
            else:
                self.screened_out[judged.reason] += 1


def collect(
    maker: Maker,
    accept: int,
    max_candidates: int,
    screening: Screening,
    after_round: Callable[[Collected], None] = lambda _: None,
) -> Collected:
    """Try candidates until screening would keep `accept` pairs, `max_candidates` were tried, or none is left.

    Each round tries as many as are missing, so that no candidate is paid for which is not needed. Candidates come in
    one order, whatever the goal: a higher goal or cap only adds to them. `after_round` may end it, by raising or by
    saying in `exhausted` why.
    """
    found = Collected()
    while len(found.accepted) < accept and found.exhausted is None:
        wanted = min(accept - len(found.accepted), max_candidates - found.candidates)
        if wanted <= 0:
            found.exhausted = OUT_OF_CANDIDATES
            break
        made = maker.make(wanted)
        found.candidates += len(made)
        found.take([pair for pair in made if pair is not None], screening)
        after_round(found)
        if found.exhausted is None and len(made) < wanted and len(found.accepted) < accept:
            found.exhausted = OUT_OF_PROMPTS
    return found
