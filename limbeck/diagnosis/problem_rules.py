"""A rule over problems that the model in training answers: it solves fewer than before.

Loss, margin and accuracy on pairs all grow better while a model reasons worse; this looks at what is wanted.
"""

from collections.abc import Iterator

from limbeck.diagnosis.history import Finding, History, interval, said
from limbeck.statistics import Interval

SOLVED, ASKED = "solved", "problems"  # values of a validation: a share, and of how many

_WORSE = (
    "Lower learning_rate; with DPO raise dpo.nll_weight or dpo.beta, so that the policy stays near what it wrote. "
    'keep = "solved" keeps the weights that solved most.'
)


def problem_findings(history: History, split: str) -> Iterator[Finding]:
    """What the newest point, of `split`, shows of the problems solved."""
    before, last, limit = _solved_before(history), history.settled(SOLVED), history.rules.max_solved_drop
    if split != "validation" or not last or before is None:
        return
    now = _solved(history, max(last))
    if before - now.estimate > limit and now.high < before:
        sentence = (
            f"the model solves fewer problems than before training: {said(now)} at best at the last {len(last)} "
            f"validations, where it solved {before:.2f}, threshold {limit:g} less."
        )
        yield Finding(SOLVED, "max_solved_drop", before - now.estimate, limit, sentence, _WORSE)


def solves_more(history: History) -> bool:
    """Whether more problems than before training were solved at each of the last validations, beyond chance."""
    before, last = _solved_before(history), history.settled(SOLVED)
    return bool(last) and before is not None and _solved(history, min(last)).low > before


def _solved_before(history: History) -> float | None:
    shares = history.validated(SOLVED)
    return shares[0] if shares and not history.validation[0].step else None


def _solved(history: History, share: float) -> Interval:
    return interval(share, round(history.validated(ASKED)[-1]))
