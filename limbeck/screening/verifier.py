"""What the task's own scorer says of a pair. Pure.

Start reading at: `disagreement`.
"""

from collections.abc import Callable

from limbeck import tasks
from limbeck.records import Pair, Problem

Solves = Callable[[Problem, str], bool]
CHOSEN_WRONG = "verifier: the chosen is wrong"
REJECTED_RIGHT = "verifier: the rejected is right"


def solves(problem: Problem, text: str) -> bool:
    """Ask the task's own scorer."""
    return tasks.score(problem, text).solved


def disagreement(pair: Pair, solves: Solves) -> str | None:
    """Say where the task's scorer contradicts the pair; None where it agrees or there is no task."""
    if pair.problem is None:
        return None
    if not solves(pair.problem, pair.chosen):
        return CHOSEN_WRONG
    return REJECTED_RIGHT if solves(pair.problem, pair.rejected) else None


def exchanged(pair: Pair, solves: Solves) -> Pair | None:
    """The pair with its answers exchanged, and marked so, where the scorer holds the opposite of what the pair says.

    None everywhere else: of two wrong answers, or two right ones, no order is better. A judge's margin is exchanged
    too, being the difference of the two.
    """
    if pair.problem is None or solves(pair.problem, pair.chosen) or not solves(pair.problem, pair.rejected):
        return None
    scores = {name: -value if name == "margin" else value for name, value in pair.scores.items()}
    return pair.model_copy(
        update={"chosen": pair.rejected, "rejected": pair.chosen, "scores": scores, "swapped": not pair.swapped}
    )
