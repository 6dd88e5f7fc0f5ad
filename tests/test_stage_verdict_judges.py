"""What the verdict says, and depends on, where the judge that mined is the only judge of the result."""

from pathlib import Path
from typing import Any

import pytest

from limbeck import pipeline
from limbeck.recipe_file import parse_recipe
from limbeck.stages.verdict.wording import say_verdict

ONLY_JUDGE = "The judge that found the weak prompts, nemotron, is the only judge of this result."
BY_REWARD = {"rule": "gap", "judge": "nemotron"}


def recipe(arm: dict[str, int], mine: dict[str, str], *judges: str) -> Any:
    data = {"name": "r", "corpus": {"tasks": {}}, "mine": mine, "evaluate": {"judges": judges}, "arms": {"a": arm}}
    return parse_recipe(data, "r.toml")


@pytest.mark.parametrize(
    ("arm", "mine", "judges", "said"),
    [
        ({"zero_shot": 9}, BY_REWARD, ("nemotron",), True),
        ({"human": 9}, BY_REWARD, ("nemotron",), False),  # nothing is mined
        ({"zero_shot": 9}, {}, ("nemotron",), False),
        ({"zero_shot": 9}, BY_REWARD, ("nemotron", "verifier"), False),
    ],
)
def test_the_judge_that_mined_is_named_where_it_mined_and_judges_alone(
    arm: dict[str, int], mine: dict[str, str], judges: tuple[str, ...], said: bool
) -> None:
    assert (say_verdict([], [], recipe(arm, mine, *judges)) == ONLY_JUDGE) is said


def test_a_verdict_is_stale_where_another_judge_mined_and_not_where_none_does() -> None:
    def parts(arm: dict[str, int]) -> list[Any]:
        recipes = [recipe(arm, mine, "nemotron") for mine in ({}, BY_REWARD)]
        return [unit.part for found in recipes for unit in pipeline.units(found, Path("/b")) if unit.name == "verdict"]

    by_verifier, by_reward = parts({"zero_shot": 9})
    assert by_verifier != by_reward
    by_verifier, by_reward = parts({"human": 9})
    assert by_verifier == by_reward
