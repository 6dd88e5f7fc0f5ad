"""Two models on the same prompts, prompt by prompt: what figures of single prompts are drawn from.

A prompt with several samples counts once, by their mean, as in the verdict. Refuses to judge: judges did.
"""

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean
from typing import NamedTuple, cast

from limbeck.recipe.verdict import Judge
from limbeck.records import HeldOutSplit, Judgement
from limbeck.stages.report.gather import Answers, Gathered

_DIFFERENCES = {"win": 1.0, "tie": 0.0, "loss": -1.0}


class PromptPair(NamedTuple):
    """One prompt on which both models were scored.

    `before` and `after`: scores of baseline and candidate, None from a judge that compares; `tokens`: candidate's
    response tokens minus the baseline's, None where either is unknown.
    """

    prompt_id: str
    topic: str
    before: float | None
    after: float | None
    difference: float
    tokens: float | None


def scored(judgement: Judgement, judge: str) -> float | None:
    """A judgement as a number: 1 or 0 of the verifier (solved or not), else the reward; None where unscored."""
    if judge == "verifier":
        return None if judgement.solved is None else float(judgement.solved)
    return judgement.score


def scores_by_prompt(answers: Answers, judge: str) -> dict[str, float]:
    """The mean score of each prompt's samples; prompts without a scored sample are not in it."""
    lines = answers.judgements.get(cast(Judge, judge), {}).values()
    return _means((line.prompt_id, value) for line in lines if (value := scored(line, judge)) is not None)


def tokens_by_prompt(answers: Answers) -> dict[str, float]:
    """The mean number of response tokens of each prompt's samples, of those where it is known."""
    return _means(
        (reply.prompt_id, float(reply.num_tokens)) for reply in answers.replies if reply.num_tokens is not None
    )


def preferences_by_prompt(answers: Answers) -> dict[str, float]:
    """The mean over a prompt's samples of 1 for won, 0 for tied, -1 for lost against the baseline's reply."""
    lines = answers.preferences.values()
    return _means((line.prompt_id, _DIFFERENCES[line.outcome]) for line in lines if line.outcome is not None)


def _means(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for prompt_id, value in values:
        found[prompt_id].append(value)
    return {prompt_id: fmean(each) for prompt_id, each in found.items()}


def paired(
    gathered: Gathered, candidate: str, baseline: str, judge: str, split: HeldOutSplit = "test"
) -> tuple[PromptPair, ...]:
    """The prompts of a split on which both models were scored, in the order of the split's file."""
    if not {candidate, baseline} <= gathered.answers.keys():
        return ()
    old, new = gathered.answers[baseline], gathered.answers[candidate]
    before, after = scores_by_prompt(old, judge), scores_by_prompt(new, judge)
    preferred = preferences_by_prompt(new) if judge == "pairwise" else {}
    old_tokens, new_tokens = tokens_by_prompt(old), tokens_by_prompt(new)
    found = []
    for row in (held.row for held in gathered.prompts if held.split == split):
        key, known = row.id, row.id in before and row.id in after
        if not known and key not in preferred:
            continue
        tokens = new_tokens[key] - old_tokens[key] if key in new_tokens and key in old_tokens else None
        x, y = (before[key], after[key]) if known else (None, None)
        change = after[key] - before[key] if known else preferred[key]
        found.append(PromptPair(key, row.topic, x, y, change, tokens))
    return tuple(found)
