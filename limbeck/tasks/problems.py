"""From a generator's item to a `Problem`: solved, checked by the generator's own scorer, or refused.

It knows no splits; whether a problem was seen before is not its business.
"""

from limbeck.records import Problem
from limbeck.tasks.families import Family
from limbeck.tasks.gym import Item
from limbeck.tasks.scoring import score

# About ninety tokens of a tokenizer that writes numbers digit by digit: what a 135 M model can hold together.
MAX_SOLUTION_CHARS = 360

# The raw explanation of gsm_symbolic: `solution` replaces it.
_NOT_STORED = ("answer_cot",)


def build(family: Family, item: Item) -> Problem | None:
    """Return the problem behind `item`, or None where it has no short worked solution that its scorer accepts."""
    solution = family.solution(item)
    if solution is None or len(solution) > MAX_SOLUTION_CHARS:
        return None
    problem = Problem(
        family=family.name,
        question=item.question,
        answer=item.answer,
        metadata={key: value for key, value in item.facts.items() if key not in _NOT_STORED},
        solution=solution,
        content=family.content(item),
    )
    return problem if score(problem, solution).solved else None
