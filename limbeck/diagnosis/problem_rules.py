"""A rule over problems that the model in training answers: it solves fewer than before.

Loss, margin and accuracy on pairs all grow better while a model reasons worse; this looks at what is wanted.
"""

from collections.abc import Iterator, Sequence

from limbeck.diagnosis.history import Finding, History, interval, said
from limbeck.records import Metric

SOLVED, ASKED = "solved", "problems"  # values of a validation: a share, and of how many

_WORSE = (
    "Lower learning_rate; with DPO raise dpo.nll_weight or dpo.beta, so that the policy stays near what it wrote. "
    'keep = "solved" keeps the weights that solved most.'
)


def problem_findings(history: History, split: str) -> Iterator[Finding]:
    """What the newest point, of `split`, shows of the problems solved."""
    shares, last = history.validated(SOLVED), history.settled(SOLVED)
    if split != "validation" or not last or history.validation[0].step:
        return
    before, limit = shares[0], history.rules.max_solved_drop
    now = interval(max(last), round(history.validated(ASKED)[-1]))
    if before - now.estimate > limit and now.high < before:
        sentence = (
            f"the model solves fewer problems than before training: {said(now)} at best at the last {len(last)} "
            f"validations, where it solved {before:.2f}, threshold {limit:g} less."
        )
        yield Finding(SOLVED, "max_solved_drop", before - now.estimate, limit, sentence, _WORSE)


def solved_more(before: Metric, after: Sequence[Metric]) -> bool:
    """Whether at each of the validations `after` more problems were solved than at `before`, beyond chance."""
    shares = [point.values[SOLVED] for point in after if SOLVED in point.values]
    if SOLVED not in before.values or not shares:
        return False
    return interval(min(shares), round(before.values[ASKED])).low > before.values[SOLVED]
