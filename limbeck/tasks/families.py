"""The registry of task families: which generator, at which difficulty, solved how, and whether it is ever trained on.

A family is data; how its solutions are written is in `solutions_sums`, `solutions_numbers`, `solutions_words` and
`gsm`. It knows nothing of seeds, splits or scores.

Left out on purpose: number_sorting (its scorer accepts numbers that are off by one), time_intervals (its items depend
on today's date), basic_arithmetic without brackets (its keys ignore the precedence of `*`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from limbeck.errors import RecipeError
from limbeck.records import Problem
from limbeck.tasks import gsm, solutions_numbers, solutions_sums, solutions_words
from limbeck.tasks.gym import Item
from limbeck.tasks.slate import Slate, Solver, write_slips, write_solution


@dataclass(frozen=True)
class Family:
    """One kind of problem. `dataset` and `settings` are the generator's; `trained` families may enter training splits.

    `solution` returns a worked solution, or None for an item that is not used. `slips` yields wrong solutions, not
    all of which miss the right answer. `content` identifies a problem whatever its wording.
    """

    name: str
    dataset: str
    solution: Callable[[Item], str | None]
    slips: Callable[[Problem, Random], Iterator[str]]
    content: Callable[[Item], str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = True


def _worked(
    name: str, solver: Solver, content: Callable[[Mapping[str, Any]], str], *, trained: bool = True, **settings: Any
) -> Family:
    """A family whose solutions and slips are written on a slate from the generator's metadata."""
    return Family(
        name=name,
        dataset=name,
        solution=lambda item: write_solution(solver, item.facts, Slate()),
        slips=lambda problem, rng: write_slips(solver, problem.metadata, rng),
        content=lambda item: content(item.facts),
        settings=settings,
        trained=trained,
    )


def _gsm(name: str, *, held_out: bool) -> Family:
    """The word problems of either the held-out templates or all the others."""

    def solution(item: Item) -> str | None:
        if (item.facts["template"] in gsm.HELD_OUT_TEMPLATES) is not held_out:
            return None
        return gsm.worked_solution(item.facts, item.answer)

    return Family(
        name=name,
        dataset="gsm_symbolic",
        solution=solution,
        slips=gsm.slips,
        content=lambda item: gsm.content(item.facts, item.question),
        trained=not held_out,
    )


# Append only: a family's place fixes the seeds of its items. Settings are the easiest that still leave a small model
# something to learn, with room for a few thousand different contents where the family has them.
FAMILIES: tuple[Family, ...] = (
    _gsm("gsm_symbolic", held_out=False),
    _worked(
        "chain_sum",
        solutions_sums.expression,
        solutions_sums.expression_content,
        min_terms=2,
        max_terms=4,
        min_digits=1,
        max_digits=2,
    ),
    _worked(
        "leg_counting",
        solutions_sums.legs,
        solutions_sums.legs_content,
        min_animals=2,
        max_animals=3,
        min_instances=1,
        max_instances=10,
    ),
    _worked(
        "basic_arithmetic",
        solutions_sums.expression,
        solutions_sums.expression_content,
        min_terms=3,
        max_terms=4,
        min_digits=1,
        max_digits=1,
        operators=("+", "-", "*"),
        allow_negation=False,
    ),
    _worked(
        "simple_equations",
        solutions_numbers.equation,
        solutions_numbers.equation_content,
        min_terms=2,
        max_terms=2,
        min_value=1,
        max_value=12,
        operators=("+", "-", "*"),  # `*` has to be named for the unknown to get a coefficient
        operators_weights=[0.5, 0.5, 0.0],
    ),
    _worked("gcd", solutions_numbers.gcd, solutions_numbers.gcd_content, min_value=2, max_value=80),
    _worked(
        "fraction_simplification",
        solutions_numbers.fraction,
        solutions_numbers.fraction_content,
        min_value=1,
        max_value=30,
        min_factor=2,
        max_factor=10,
        styles=("plain",),
    ),
    _worked(
        "number_filtering",
        solutions_numbers.number_filter,
        solutions_numbers.number_filter_content,
        min_numbers=3,
        max_numbers=5,
        min_decimals=0,
        max_decimals=0,
        min_value=0,
        max_value=99,
    ),
    _worked("letter_counting", solutions_words.letters, solutions_words.letters_content, min_words=2, max_words=3),
    _worked(
        "spell_backward", solutions_words.backward, solutions_words.backward_content, min_word_len=3, max_word_len=6
    ),
    _worked(
        "calendar_arithmetic",
        solutions_words.weekday,
        solutions_words.weekday_content,
        tasks=["weekday_offset"],
        offset_upper_bound=140,
    ),
    _worked(
        "products",
        solutions_sums.expression,
        solutions_sums.expression_content,
        trained=False,
        min_terms=2,
        max_terms=3,
        min_digits=1,
        max_digits=1,
    ),
    _worked(
        "simple_geometry",
        solutions_sums.angles,
        solutions_sums.angles_content,
        trained=False,
        min_sides=3,
        max_sides=4,
    ),
    _gsm("gsm_symbolic_held_out", held_out=True),
)

BY_NAME: Mapping[str, Family] = {family.name: family for family in FAMILIES}
TRAINED: tuple[str, ...] = tuple(family.name for family in FAMILIES if family.trained)
TRANSFER: tuple[str, ...] = tuple(family.name for family in FAMILIES if not family.trained)


def family(name: str) -> Family:
    """Return the family called `name`; a RecipeError lists the known ones."""
    if name not in BY_NAME:
        raise RecipeError(f"There is no task family {name!r}; the families are {', '.join(BY_NAME)}.")
    return BY_NAME[name]
