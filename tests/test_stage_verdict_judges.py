"""What the verdict says, and depends on, where the judge that mined is the only judge of the result."""

from pathlib import Path
from typing import Any

import pytest

from limbeck import pipeline
from limbeck.errors import RecipeError
from limbeck.recipe import Recipe
from limbeck.recipe.file import load_recipe, parse_recipe
from limbeck.records.verdict import JudgeCard
from limbeck.stages.verdict.wording import say_verdict
from limbeck.store import write_json

ONLY_JUDGE = "the judge that found the weak prompts, nemotron, is the only judge of this result"
BY_REWARD = {"rule": "gap", "judge": "nemotron"}


def recipe(arm: dict[str, int], mine: dict[str, str], *judges: str, same_judge: bool = False) -> Recipe:
    evaluate = {"judges": judges, "same_judge": same_judge}
    data = {"name": "r", "corpus": {"tasks": {}}, "mine": mine, "evaluate": evaluate, "arms": {"a": arm}}
    paid = {"nemotron": {"budget": {"tokens": 1000}}}  # so that a whole run of it is possible
    return parse_recipe({**data, "judges": paid}, "r.toml")


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
    assert (ONLY_JUDGE in say_verdict([], [], recipe(arm, mine, *judges))) is said


@pytest.mark.parametrize(
    ("arm", "mine", "judges"),
    [
        ({"human": 9}, BY_REWARD, ("nemotron",)),  # nothing is mined
        ({"zero_shot": 9}, {}, ("verifier",)),  # exact: may do both
        ({"zero_shot": 9}, {}, ("nemotron",)),
        ({"zero_shot": 9}, BY_REWARD, ("verifier", "nemotron")),
        ({"zero_shot": 9}, BY_REWARD, ("nemotron", "verifier")),
    ],
)
def test_every_other_set_of_judges_may_judge(
    arm: dict[str, int], mine: dict[str, str], judges: tuple[str, ...]
) -> None:
    pipeline.check_judges(recipe(arm, mine, *judges))


def test_a_learned_judge_that_mined_is_refused_as_the_only_one_unless_the_recipe_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NVIDIA_API_KEY", "key")
    alone = recipe({"zero_shot": 9}, BY_REWARD, "nemotron")
    with pytest.raises(RecipeError, match=r"evaluate\.judges: nemotron finds the weak prompts .*same_judge = true"):
        pipeline.check(alone)
    pipeline.check(recipe({"zero_shot": 9}, BY_REWARD, "nemotron", same_judge=True))


def test_the_papers_recipe_says_that_its_one_judge_does_both() -> None:
    paper = load_recipe(Path(__file__).parent.parent / "recipes" / "paper.toml")
    assert paper.mined_alone()
    pipeline.check_judges(paper)
    assert ONLY_JUDGE in say_verdict([], [], paper)


def test_a_verdict_is_stale_where_another_judge_mined_and_not_where_none_does() -> None:
    def parts(arm: dict[str, int]) -> list[Any]:
        recipes = [recipe(arm, mine, "nemotron") for mine in ({}, BY_REWARD)]
        return [unit.part for found in recipes for unit in pipeline.units(found, Path("/b")) if unit.name == "verdict"]

    by_verifier, by_reward = parts({"zero_shot": 9})
    assert by_verifier != by_reward
    by_verifier, by_reward = parts({"human": 9})
    assert by_verifier == by_reward


def verdict_inputs(evaluate: dict[str, Any], **sections: Any) -> dict[str, Path]:
    data = {"name": "r", "corpus": {"tasks": {}}, "arms": {"a": {"zero_shot": 9}}, "evaluate": evaluate} | sections
    (unit,) = [unit for unit in pipeline.units(parse_recipe(data, "r.toml"), Path("/b")) if unit.name == "verdict"]
    return dict(unit.inputs)


def test_the_verdict_reads_what_each_judge_leaves(tmp_path: Path) -> None:
    pairwise = verdict_inputs({"judges": ["pairwise"]}, judges={"pairwise": {"model": "local:m"}})
    assert pairwise["a/preferences"] == Path("compare/a/preferences.jsonl")
    assert not [name for name in pairwise if "judgements" in name or name == "sft/preferences"]
    assert verdict_inputs({"judges": ["local"]})["reward_card"] == Path("reward/card.json")
    named = {"local": {"model": str(tmp_path / "model")}}
    assert "reward_card" not in verdict_inputs({"judges": ["local"]}, judges=named)
    (tmp_path / "card.json").write_text('{"name": "somebody\'s own"}')
    assert "reward_card" not in verdict_inputs({"judges": ["local"]}, judges=named)
    write_json(tmp_path / "card.json", JudgeCard(judge="local", about="bought").model_dump(mode="json"))
    assert verdict_inputs({"judges": ["local"]}, judges=named)["reward_card"] == tmp_path / "card.json"
    assert "paid/teach" not in verdict_inputs({"judges": ["verifier"]})
    paid = verdict_inputs({"judges": ["verifier"]}, teach={"teacher": "openai:some-model"})
    assert paid["paid/teach"] == Path("teach/manifest.json")
