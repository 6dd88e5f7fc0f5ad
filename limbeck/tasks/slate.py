"""The slate on which a worked solution is written, line by line, and on which exactly one slip can be made.

Every step that a pupil could get wrong goes through `Slate.decide`. Solving writes with no slip; slipping writes the
same solution again with one decision gone wrong, and everything after it follows from the wrong value. The slate
knows nothing of families, questions or scores.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, TypeVar

Choice = TypeVar("Choice")
Solver = Callable[[Mapping[str, Any], "Slate"], str]

# A small model imitates a dozen short lines; a slip may make a solution a little longer than the right one.
MAX_LINES = 12
MAX_LINES_WITH_SLIP = 16
# Wrong values tried at each decision before it is given up as one where no slip shows in the answer.
SLIPS_PER_DECISION = 3


class DerailedError(Exception):
    """A solution cannot be written down: it grows too long, or a slip leads to a step that makes no sense."""


class Slate:
    """The lines of one worked solution. With `slip_at` set, decision number `slip_at` goes wrong."""

    def __init__(self, slip_at: int | None = None, rng: Random | None = None) -> None:
        self.lines: list[str] = []
        self.num_decisions = 0
        self._slip_at = slip_at
        self._rng = rng or Random(0)
        self._max_lines = MAX_LINES if slip_at is None else MAX_LINES_WITH_SLIP

    def write(self, line: str) -> None:
        """Write one step."""
        if len(self.lines) == self._max_lines:
            raise DerailedError("the solution is too long")
        self.lines.append(line)

    def decide(self, right: Choice, wrong: Callable[[], Sequence[Choice]]) -> Choice:
        """Return `right`, or one of `wrong()` if this is the decision that slips."""
        index = self.num_decisions
        self.num_decisions += 1
        if index != self._slip_at:
            return right
        options = [option for option in wrong() if option != right]
        if not options:
            raise DerailedError("nothing to get wrong here")
        return self._rng.choice(options)

    def recall(self, items: Sequence[Choice]) -> list[Choice]:
        """Return all items; the slip is to forget one of several."""
        shorter = [[*items[:at], *items[at + 1 :]] for at in range(len(items))]
        return self.decide(list(items), lambda: shorter if len(items) > 1 else [])

    def result(self, a: int, operator: str, b: int, unit: int = 1) -> int:
        """Return `a operator b`, without writing it. A slip misses it by a multiple of `unit`."""
        right = exact(a, operator, b)
        misses = near_misses(a, operator, b) if unit == 1 else (right - unit, right + unit, right + 2 * unit)
        return self.decide(right, lambda: misses)

    def compute(self, a: int, operator: str, b: int, label: str = "") -> int:
        """Write `a operator b = result` and return the result."""
        value = self.result(a, operator, b)
        self.write(f"{label}{a} {operator} {b} = {value}")
        return value

    def add(self, a: int, b: int, operator: str = "+") -> int:
        """Write `a + b` or `a - b` one decimal place of `b` a line, so that no line needs a leap."""
        if b < 0:
            operator = "-" if operator == "+" else "+"
        for part in places(abs(b)):
            a = self.compute(a, operator, part)
        return a

    def multiply(self, a: int, b: int, label: str = "") -> int:
        """Write the product; a factor above ten is cut into its decimal places, and the parts are added up."""
        large, small = (a, b) if abs(a) > abs(b) else (b, a)
        if abs(large) <= 10:
            return self.compute(a, "*", b, label)
        if abs(small) > 10:
            raise DerailedError("a product of two numbers above ten is no short solution")
        sign = 1 if large > 0 else -1
        first, *others = places(abs(large))
        products = [self.compute(sign * first, "*", small, label)]
        products += [self.compute(sign * part, "*", small) for part in others]
        total = products[0]
        for product in products[1:]:
            total = self.add(total, product)
        return total


def places(number: int) -> list[int]:
    """Cut a number into its decimal places: 47 -> [40, 7], 30 -> [30], 0 -> [0]."""
    digits = str(number)
    parts = [int(digit) * 10 ** (len(digits) - 1 - at) for at, digit in enumerate(digits)]
    return [part for part in parts if part] or [0]


def exact(a: int, operator: str, b: int) -> int:
    """Return the whole-number result of one operation; a division must come out even."""
    if operator == "+":
        return a + b
    if operator == "-":
        return a - b
    if operator == "*":
        return a * b
    if b == 0 or a % b:
        raise DerailedError("a division does not come out even")
    return a // b


def near_misses(a: int, operator: str, b: int) -> list[int]:
    """Return what a pupil writes instead of `a operator b`: off by one, a forgotten carry, the neighbour in a table."""
    right = exact(a, operator, b)
    if operator == "+":
        return [right + 1, right - 1, *([right - 10] if abs(a) % 10 + b % 10 >= 10 else [])]
    if operator == "-":
        return [right + 1, right - 1, *([right + 10] if a % 10 < b % 10 else []), *([b - a] if b > a else [])]
    if operator == "*":
        return [right + a, right - a, right + b, right - b, a + b, right + 1]
    return [right + 1, *([right - 1] if right > 1 else [])]


def write_solution(solver: Solver, facts: Mapping[str, Any], slate: Slate) -> str | None:
    """Return the whole text of a worked solution, or None where it cannot be written down."""
    try:
        answer = solver(facts, slate)
    except DerailedError:
        return None
    return "\n".join([*slate.lines, f"#### {answer}"])


def write_slips(solver: Solver, facts: Mapping[str, Any], rng: Random) -> Iterator[str]:
    """Yield the solution with one slip each, the decisions in random order. Some slips do not reach the answer."""
    clean = Slate()
    write_solution(solver, facts, clean)
    for slip_at in rng.sample(range(clean.num_decisions), clean.num_decisions):
        for _ in range(SLIPS_PER_DECISION):
            text = write_solution(solver, facts, Slate(slip_at, rng))
            if text is not None:
                yield text
