"""A wrong worked solution that looks like a right one: one slip, carried through to a wrong final answer."""

from random import Random

from limbeck.records import Problem
from limbeck.tasks import gsm
from limbeck.tasks.families import family
from limbeck.tasks.numeric import GSM8K
from limbeck.tasks.scoring import score


def slip(problem: Problem, rng: Random) -> str | None:
    """Return the worked solution with one realistic slip in it, or None where none leads to a wrong answer.

    What it returns has a final answer, and the family's scorer does not accept it.
    """
    slips = gsm.slips if problem.family == GSM8K else family(problem.family).slips
    for text in slips(problem, rng):
        outcome = score(problem, text)
        if text != problem.solution and outcome.parsed and outcome.failure is None and not outcome.solved:
            return text
    return None
