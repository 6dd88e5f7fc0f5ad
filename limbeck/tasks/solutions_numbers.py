"""Worked solutions about whole numbers: common divisors, fractions, equations, filtering a list.

Each solver reads a generator's metadata and writes on a slate; each `*_content` names the problem whatever its
wording. Nothing here knows a question's text or a score.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from limbeck.tasks.slate import DerailedError, Slate

Facts = Mapping[str, Any]
MAX_GCD_LINES = 4


def gcd(facts: Facts, slate: Slate) -> str:
    """Euclid: `52, 22: 2 * 22 = 44, 52 - 44 = 8`, then on with 22 and 8, until nothing is left."""
    small, large = sorted(facts["numbers"])
    rest = -1
    while rest != 0 and slate.decide(True, lambda: (False,)):
        times = large // small
        if len(slate.lines) == MAX_GCD_LINES:
            raise DerailedError("too many numbers in one solution: its lines are long")
        if times > 10 and small > 2:
            raise DerailedError("how often the smaller number fits cannot be seen at a glance")
        product = slate.result(times, "*", small)
        rest = slate.result(large, "-", product)
        if rest < 0:
            raise DerailedError("a slip took away more than there was")
        slate.write(f"{large}, {small}: {times} * {small} = {product}, {large} - {product} = {rest}")
        small, large = (rest, small) if rest else (small, large)
    return str(small)


def gcd_content(facts: Facts) -> str:
    return "gcd: " + " ".join(str(number) for number in sorted(facts["numbers"]))


def fraction(facts: Facts, slate: Slate) -> str:
    """Divide both parts by 2, 3, 5 and 7 for as long as both come out even (the generator's factors have no other)."""
    top, bottom = facts["numerator"], facts["denominator"]
    for prime in (2, 3, 5, 7):
        while top % prime == 0 and bottom % prime == 0 and slate.decide(True, lambda: [False]):
            new_top, new_bottom = slate.result(top, "/", prime), slate.result(bottom, "/", prime)
            slate.write(f"{top} / {prime} = {new_top}, {bottom} / {prime} = {new_bottom}")
            top, bottom = new_top, new_bottom
    return f"{top}/{bottom}"


def fraction_content(facts: Facts) -> str:
    return f"fraction: {facts['numerator']}/{facts['denominator']}"


class Equation(NamedTuple):
    """`coefficient * unknown + constant = right`."""

    coefficient: int
    constant: int
    right: int


def read_equation(facts: Facts) -> Equation:
    """Read `12*x - 5 = 31`, `x + 5 = 9` or `7 - 3*x = -5`."""
    left, _, right = facts["equation"].replace(" ", "").partition("=")
    coefficient = constant = 0
    for sign, number, unknown in re.findall(r"([-+]?)(\d*)\*?([a-z]?)", left):
        if number or unknown:
            value = int(f"{sign}{number or 1}")
            coefficient, constant = (value, constant) if unknown else (coefficient, value)
    return Equation(coefficient, constant, int(right))


def equation(facts: Facts, slate: Slate) -> str:
    """Bring the constant to the other side, then divide by the coefficient."""
    coefficient, constant, right = read_equation(facts)
    unknown = facts["variable"]
    start, moved = (right, -constant) if coefficient > 0 else (constant, -right)
    moved = slate.decide(moved, lambda: [-moved])
    operator, factor = "+" if moved >= 0 else "-", abs(coefficient)
    # A miss by less than the coefficient would not come out even in the next line.
    value = slate.result(start, operator, abs(moved), unit=factor)
    term = unknown if factor == 1 else f"{factor}*{unknown}"
    slate.write(f"{term} = {start} {operator} {abs(moved)} = {value}")
    if factor == 1:
        return str(value)
    root = slate.result(value, "/", factor)
    slate.write(f"{unknown} = {value} / {factor} = {root}")
    return str(root)


def equation_content(facts: Facts) -> str:
    coefficient, constant, right = read_equation(facts)
    return f"equation: {coefficient}*x + {constant} = {right}"


def number_filter(facts: Facts, slate: Slate) -> str:
    """One comparison a line: `14 > 20: no, remove`."""
    action, _, relation = facts["operation"].partition("_")
    limit, sign = facts["filter_value"], ">" if relation == "larger" else "<"
    kept = []
    for number in slate.recall(facts["original_numbers"]):
        difference = float(number) - float(limit)
        right = difference > 0 if sign == ">" else difference < 0
        applies = slate.decide(right, lambda: (True, False))
        keep = applies == (action == "keep")
        slate.write(f"{number} {sign} {limit}: {'yes' if applies else 'no'}, {'keep' if keep else 'remove'}")
        if keep:
            kept.append(number)
    return str(kept)


def number_filter_content(facts: Facts) -> str:
    # `keep larger` and `remove smaller` differ where a number equals the limit: they stay two problems.
    return f"filter: {facts['operation']} {facts['filter_value']} of {' '.join(sorted(facts['original_numbers']))}"
