"""When a kind has enough pairs: ask in rounds, count what screening would keep, stop at the goal or the end of it all.

Knows nothing of teachers: whoever makes pairs is a `Maker`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from limbeck.likeness import EvaluationPrompts
from limbeck.recipe_pairs import Screen
from limbeck.records import Pair, Problem
from limbeck.screening import screen_pairs, solves

OUT_OF_PROMPTS = "no prompt left"
OUT_OF_CANDIDATES = "max_candidates tried"


class Maker(Protocol):
    """Makes the pairs of one kind, one candidate after the other, in an order that the seed alone decides."""

    def make(self, number: int) -> list[Pair | None]:
        """Try the next `number` candidates; None for one that came to nothing. Fewer: there are no more."""


class Gate:
    """The rules of the screening stage, on pairs that are still being written. What was verified once is remembered."""

    def __init__(self, evaluation: EvaluationPrompts, rules: Screen) -> None:
        self._evaluation, self._rules = evaluation, rules
        self._solved: dict[tuple[str, str, str], bool] = {}

    def reasons(self, pairs: Sequence[Pair]) -> list[str | None]:
        """Why each of a kind's pairs would be dropped; None for those that would be kept."""
        return screen_pairs(pairs, self._evaluation, self._rules, self._solves)

    def kept(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The pairs that would be kept."""
        return [pair for pair, reason in zip(pairs, self.reasons(pairs), strict=True) if reason is None]

    def _solves(self, problem: Problem, text: str) -> bool:
        key = (problem.family, problem.content, text)
        if key not in self._solved:
            self._solved[key] = solves(problem, text)
        return self._solved[key]


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


def collect(
    maker: Maker,
    accept: int,
    max_candidates: int,
    gate: Gate,
    after_round: Callable[[Collected], None] = lambda _: None,
) -> Collected:
    """Try candidates until screening would keep `accept` pairs, `max_candidates` were tried, or none is left.

    Each round tries as many as are missing, so that no candidate is paid for which is not needed. Candidates come in
    one order, whatever the goal: a higher goal or cap only adds to them. `after_round` may end it by raising.
    """
    found = Collected()
    while len(found.accepted) < accept and found.exhausted is None:
        wanted = min(accept - len(found.accepted), max_candidates - found.candidates)
        if wanted <= 0:
            found.exhausted = OUT_OF_CANDIDATES
            break
        made = maker.make(wanted)
        found.candidates += len(made)
        found.pairs += [pair for pair in made if pair is not None]
        reasons = gate.reasons(found.pairs)
        found.accepted = [pair for pair, reason in zip(found.pairs, reasons, strict=True) if reason is None]
        found.screened_out = Counter(reason for reason in reasons if reason is not None)
        after_round(found)
        if len(made) < wanted and len(found.accepted) < accept:
            found.exhausted = OUT_OF_PROMPTS
    return found
