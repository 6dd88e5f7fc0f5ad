"""Pairs that only a judge sees: the recipe's own, or a part of the human ones, set aside by prompt before mining.

What they are needed for, and how many reward models, the recipe says (`Recipe.reward_units`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from limbeck.apart import part, prompts_to_set_aside, shared_out
from limbeck.errors import InputError
from limbeck.likeness import PromptIdentity, opening
from limbeck.recipe import Recipe
from limbeck.records import Pair, PromptRow

FILES = {"reward": "judging", "reward_mine": "judging_mine"}
OVER = "more than reward.pairs, or a prompt that is trained on"
_LEAST_PROMPTS = 3  # one to train on, one to choose the checkpoint by, one to measure by
SET_ASIDE = "same prompt as a pair set aside for the judge"


class SetAside(NamedTuple):
    """`files`: the judges' pairs by file; `human`: the pairs that arms may train on; `prompts`: those of the judges.

    `drops`: pairs that neither may see, by section and reason.
    """

    files: Mapping[str, list[Pair]]
    human: list[Pair]
    prompts: frozenset[PromptIdentity]
    drops: Mapping[str, int] = {}


def set_aside(recipe: Recipe, own: Sequence[Pair], human: Sequence[Pair], elsewhere: Iterable[PromptRow]) -> SetAside:
    """Set the judges' pairs aside: of `own` where there are some, else at most half of `human`, and no more than arms
    and validation leave.

    `elsewhere`: built-in prompts that are trained on whatever is set aside here; their pairs are no judge's.

    Raises:
        InputError: there are too few prompts for each judge.
    """
    judges, source = recipe.reward_units(), recipe.pairs_for_judging()
    if not judges or source == "teacher":
        return SetAside({}, list(human), frozenset())
    taken = {opening(row) for row in elsewhere}
    rows = part(own if source == "judging" else human, taken).rest
    left = len(rows) if source == "judging" else min(len(human) // 2, len(human) - recipe.human_needed())
    prompts = prompts_to_set_aside(rows, min(left, recipe.reward.pairs * len(judges)), recipe.seed)
    if len(prompts) < _LEAST_PROMPTS * len(judges):
        raise InputError(_too_few(recipe, len(human)))
    aside, left_to_arms = part(rows, prompts).aside, part(human, prompts).rest
    pairs = shared_out(aside, judges, recipe.seed)
    drops = {}
    if source == "judging":  # human pairs that share a prompt are no arm's any more, and the judge has its own
        drops = {f"preferences: {SET_ASIDE}": len(human) - len(left_to_arms), f"judging: {OVER}": len(own) - len(aside)}
    return SetAside({FILES[judge]: pairs[judge] for judge in judges}, left_to_arms, frozenset(prompts), drops)


def _too_few(recipe: Recipe, human: int) -> str:
    ways = "name a reward model as judges.local.model, or other judges as evaluate.judges"
    if recipe.pairs_for_judging() == "judging":
        return (
            f"[[corpus.judging]] holds too few prompts to train and measure a reward model with: give more, or {ways}"
        )
    return (
        f"of {human} human pairs arms and validation need {recipe.human_needed()}, which leaves too few to train and "
        f"measure a reward model with: lower the arms' human, give [[corpus.judging]], or {ways}"
    )
