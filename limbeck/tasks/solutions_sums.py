"""Worked solutions whose steps are sums and products: chain sums, expressions, products, legs, angles.

Each solver reads a generator's metadata and writes on a slate; each `*_content` names the problem whatever its
wording. Nothing here knows a question's text or a score.
"""

import re
from collections.abc import Mapping
from typing import Any

from limbeck.tasks import gym
from limbeck.tasks.arithmetic import canonical_expression, evaluate
from limbeck.tasks.slate import DerailedError, Slate

Facts = Mapping[str, Any]


def expression_items(expression: str) -> list[int | str]:
    """Cut `( 3 + 4 ) * 2` into numbers and symbols. A number with a sign is refused: too much for a first lesson."""
    pieces = re.findall(r"-?\d+|[-+*()]", expression) if " " not in expression else expression.split()
    items: list[int | str] = [int(piece) if piece.lstrip("-").isdigit() else piece for piece in pieces]
    if any(isinstance(item, int) and item < 0 for item in items):
        raise DerailedError("a signed number in an expression")
    return items


def expression(facts: Facts, slate: Slate) -> str:
    """`( 3 + 4 ) * 2`: one operation a line, in the order in which they are done."""

    def apply(a: int, operator: str, b: int) -> int:
        if operator == "*":
            return slate.multiply(a, b)
        return slate.add(a, b, operator)

    return str(evaluate(expression_items(facts["expression"]), apply))


def expression_content(facts: Facts) -> str:
    return canonical_expression(expression_items(facts["expression"]))


def legs(facts: Facts, slate: Slate) -> str:
    """`spider 8 legs: 3 * 8 = 24` for each animal, then the sum."""
    known = gym.legs()
    totals = []
    for animal, count in slate.recall(list(facts["animals"].items())):
        each = slate.decide(known[animal], lambda: (0, 2, 4, 6, 8))
        totals.append(slate.multiply(count, each, label=f"{animal} {each} legs: "))
    total = totals[0]
    for part in totals[1:]:
        total = slate.add(total, part)
    return str(total)


def legs_content(facts: Facts) -> str:
    return "legs: " + ", ".join(f"{count} {animal}" for animal, count in sorted(facts["animals"].items()))


def angles(facts: Facts, slate: Slate) -> str:
    """The angles of a polygon with n corners make `180 * (n - 2)`; take away the known ones."""
    known = [int(angle) for angle in facts["known_angles"]]
    rest = 180 * slate.decide(facts["n_sides"] - 2, lambda: [facts["n_sides"] - 1])
    slate.write(f"{facts['n_sides']} angles make {rest}")
    for angle in slate.recall(known):
        rest = slate.add(rest, angle, "-")
    return str(rest)


def angles_content(facts: Facts) -> str:
    return "angles: " + " ".join(str(int(angle)) for angle in sorted(facts["known_angles"]))
