"""Score a reply to a problem with the generator's own scorer. Correct means `score_answer == 1.0`, nothing less.

It decides nothing itself, word problems excepted, whose answer is a number that `numeric` compares exactly. A scorer
that fails is an outcome with a name, never a silent zero.
"""

from typing import NamedTuple

from limbeck.records import Problem
from limbeck.tasks import gym, numeric
from limbeck.tasks.answers import extract_answer, last_value_like
from limbeck.tasks.families import family

# What parsing hostile text or reading a damaged problem raises; anything else is a fault of ours and goes up.
_SCORER_FAILURES = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, SyntaxError, RecursionError)
_SIGNLESS = "gsm_symbolic"


class Score(NamedTuple):
    """What the scorer says of a reply. `parsed` is False where nothing in the reply could be an answer.

    `failure` says why the scorer gave no verdict (then `score` is 0.0 and `solved` False); None where it gave one.
    """

    score: float
    solved: bool
    parsed: bool
    failure: str | None = None


def score(problem: Problem, text: str) -> Score:
    """Score the final answer in `text` (its `####` line, else the last value of the key's shape) against `problem`.

    A problem out of a file is its number: `numeric` says which one a reply gives. So is one of gsm_symbolic, whose own
    scorer takes -12 for 12 and `1,234 dollars` for 1.
    """
    if problem.family == numeric.GSM8K or family(problem.family).dataset == _SIGNLESS:
        return _numeric_score(problem, numeric.final_number(text))
    answer = extract_answer(text)
    if answer is None:
        answer = last_value_like(problem.answer, text)
    if answer is None:
        return Score(0.0, solved=False, parsed=False)
    entry = {"question": problem.question, "answer": problem.answer, "metadata": problem.metadata}
    try:
        value = float(gym.scorer(family(problem.family).dataset)(answer, entry))
    except _SCORER_FAILURES as error:
        return Score(0.0, solved=False, parsed=True, failure=f"{type(error).__name__}: {error}")
    return Score(value, solved=value == 1.0, parsed=True)


def _numeric_score(problem: Problem, found: numeric.Number | None) -> Score:
    key = numeric.key_of(problem)
    if key is None:
        return Score(0.0, solved=False, parsed=found is not None, failure=f"the key {problem.answer!r} is no number")
    solved = found is not None and found.equals(key)
    return Score(float(solved), solved=solved, parsed=found is not None)
