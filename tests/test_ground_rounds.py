"""Rounds on paper: what a recipe may ask for, the recipe of a round, and where its files lie."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from limbeck.errors import RecipeError
from limbeck.judges import judge_store
from limbeck.recipe import Recipe
from limbeck.recipe.file import load_recipe, write_recipe
from limbeck.recipe.rounds import unit_going_on
from limbeck.records import Estimate
from limbeck.records.rounds import Round
from limbeck.round_folders import drawn_anew, place_in_round, round_folder, whole_run
from limbeck.rounds import check_rounds, round_recipe
from limbeck.stages.teach.spending import store_for

MINED = {"zero_shot": 4}


def recipe(arms: dict[str, Any], **more: Any) -> Recipe:
    return Recipe.model_validate({"name": "x", "corpus": {"tasks": {}}, "arms": arms} | more)


@pytest.mark.parametrize(
    ("arms", "rounds", "said"),
    [
        ({"a": MINED, "b": MINED}, {}, "name the arm whose model goes on in further rounds, one of a, b"),
        ({}, {}, "one of none"),
        ({"a": MINED}, {"arm": "c"}, "there is no arm 'c'; the arms are a"),
        ({"a": MINED | {"trains": "sft"}}, {}, "a trains from the base model"),
        ({"a": {"human": 4}}, {}, "a has human pairs only"),
    ],
)
def test_more_rounds_need_one_arm_that_can_go_on(arms: dict[str, Any], rounds: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        recipe(arms, rounds={"count": 2} | rounds)
    recipe(arms, rounds=rounds)  # one round needs none


def test_no_server_can_hold_the_models_of_rounds_but_the_base_models_can() -> None:
    server = {"base_url": "http://localhost:1/v1", "model": "m"}
    recipe({"a": MINED}, rounds={"count": 2}, servers={"base": server})
    for name in ("sft", "a"):
        with pytest.raises(ValidationError, match=f"servers.{name}: further rounds"):
            recipe({"a": MINED}, rounds={"count": 2}, servers={name: server})


def test_the_recipe_of_a_round_is_the_runs_with_one_arm_and_a_seed_of_its_own(tmp_path: Path) -> None:
    teach = {"accept": {"zero_shot": 40, "few_shot": 50}}
    server = {"base_url": "http://localhost:1/v1", "model": "m"}
    asked = recipe(
        {"a": MINED, "b": {"few_shot": 4}}, rounds={"count": 3, "arm": "b"}, teach=teach, servers={"base": server}
    )
    second, third = round_recipe(asked, 2), round_recipe(asked, 3)
    assert len({asked.seed, second.seed, third.seed}) == 3
    assert second.model_copy(update={"seed": 0, "rounds": third.rounds}) == third.model_copy(update={"seed": 0})
    assert (second.rounds.number, second.rounds.arm, second.rounds.count) == (2, "b", 1)
    same = {"arms", "seed", "rounds", "teach", "servers"}
    assert second.model_dump(exclude=same) == asked.model_dump(exclude=same)
    assert (list(second.arms), second.teach.accept, second.servers) == (["b"], {"few_shot": 50}, {})
    write_recipe(tmp_path / "recipe.toml", second)
    assert load_recipe(tmp_path / "recipe.toml") == second


def test_what_was_published_of_another_arm_does_not_hinder_rounds() -> None:
    published = {"title": "T", "source": "S", "table": {"b": {"win_rate": 0.6}}}
    asked = recipe({"a": MINED, "b": MINED}, rounds={"count": 2, "arm": "a"}, published=published)
    check_rounds(asked)
    assert asked.published is not None and round_recipe(asked, 2).published is None


def test_an_arm_that_cannot_stand_alone_is_refused_before_anything_is_spent() -> None:
    arms = {"both": {"random": 20, "rolling": 4, "mixing": "interleave"}, "rolled": {"rolling": 4}}
    with pytest.raises(
        RecipeError, match="the rolling pairs of rolled are written along the random pairs of other arms"
    ):
        check_rounds(recipe(arms, rounds={"count": 2, "arm": "rolled"}))


def test_the_recipe_of_a_round_is_not_carried_out_by_itself() -> None:
    with pytest.raises(RecipeError, match=r"rounds\.number: this is the recipe of one round"):
        check_rounds(round_recipe(recipe({"a": MINED}, rounds={"count": 2}), 2))


@pytest.mark.parametrize(
    ("path", "second", "third"),
    [
        ("corpus/test.jsonl", "../../corpus/test.jsonl", "../../corpus/test.jsonl"),
        ("corpus/pool.jsonl", "../../corpus/pool_round_2.jsonl", "../../corpus/pool_round_3.jsonl"),
        ("corpus/fresh.jsonl", "../../corpus/fresh_round_2.jsonl", "../../corpus/fresh_round_3.jsonl"),
        ("retain/heldout.jsonl", "../../retain/heldout.jsonl", "../../retain/heldout.jsonl"),
        ("reward_mine/model", "../../reward_mine/model", "../../reward_mine/model"),
        ("evaluate/base/replies.jsonl", "../../evaluate/base/replies.jsonl", "../../evaluate/base/replies.jsonl"),
        ("evaluate/sft/replies.jsonl", "../../evaluate/a/replies.jsonl", "../2/evaluate/a/replies.jsonl"),
        ("sft/model", "../../dpo/a/model", "../2/dpo/a/model"),
        ("evaluate/a/replies.jsonl", "evaluate/a/replies.jsonl", "evaluate/a/replies.jsonl"),
        ("mine/weak.jsonl", "mine/weak.jsonl", "mine/weak.jsonl"),
        ("/models/base", "/models/base", "/models/base"),
    ],
)
def test_a_round_finds_what_is_shared_in_the_run_and_the_last_students_in_the_last_round(
    path: str, second: str, third: str
) -> None:
    places = [place_in_round(Path(path), number, "dpo/a").as_posix() for number in (1, 2, 3)]
    assert places == [path, second, third]
    assert drawn_anew("pool", 1) == "pool"


def test_a_round_goes_on_from_wherever_its_arm_was_trained() -> None:
    going_on = MINED | {"trains": "sft", "starts_from": "sft"}
    for arm, unit in ((going_on, "sft_arms/a"), (MINED, "dpo/a")):
        asked = recipe({"a": arm}, rounds={"count": 3})
        second = round_recipe(asked, 2)
        assert (unit_going_on(second.rounds, second.arms), unit_going_on(asked.rounds, asked.arms)) == (unit, "")
        assert place_in_round(Path("sft/model"), 3, unit).as_posix() == f"../2/{unit}/model"
        assert place_in_round(Path("evaluate/sft/replies.jsonl"), 2, unit).parts[2:] == (
            "evaluate",
            "a",
            "replies.jsonl",
        )


def test_all_rounds_of_a_run_share_the_stores_of_replies_and_nobody_else_does(tmp_path: Path) -> None:
    run = tmp_path / "run"
    second = round_folder(run, 2)
    second.mkdir(parents=True)
    assert whole_run(second) == second  # a folder of that name in no run
    (run / "recipe.toml").write_text("")
    (second / "recipe.toml").write_text("")
    assert (whole_run(second), whole_run(run), round_folder(run, 1)) == (run, run, run)
    for folder in (run, second):
        assert judge_store("nemotron", folder / "evaluate" / "a") == run / "judges" / "nemotron.sqlite"
        assert store_for(folder / "teach") == run / "teach" / "replies.sqlite"
    assert store_for(tmp_path / "teach") == tmp_path / "teach" / "replies.sqlite"


def test_rates_are_of_the_rounds_own_gain_and_unknown_where_a_part_is() -> None:
    gain = Estimate(estimate=0.06, low=0.01, high=0.11, n=100)
    one = Round(number=2, model="m", score=None, gain=gain, gain_over_sft=None, pairs=300, usd=1.5, seconds=900)
    assert one.gain_per_1000_pairs == pytest.approx(0.2)
    assert one.gain_per_usd == pytest.approx(0.04)
    assert one.gain_per_hour == pytest.approx(0.24)
    unknown = one.model_copy(update={"gain": None})
    assert (unknown.gain_per_1000_pairs, unknown.gain_per_usd, unknown.gain_per_hour) == (None, None, None)
    assert one.model_copy(update={"usd": None}).gain_per_usd is None
    assert one.model_copy(update={"usd": 0.0}).gain_per_usd is None
