"""Rolling pairs in recipes: along which pairs they are written, how many of them there must be, and what is refused."""

import re
from typing import Any

import pytest

from limbeck.errors import RecipeError
from limbeck.recipe import Recipe
from limbeck.recipe.file import parse_recipe

BETWEEN = {"mixing": "interleave"}


def recipe(arms: dict[str, Any], **sections: Any) -> Recipe:
    return parse_recipe({"name": "r", "corpus": {"tasks": {}}, "arms": arms} | sections, "r.toml")


def test_rolling_pairs_are_written_along_human_pairs_where_any_arm_asks_for_some_else_along_random_ones() -> None:
    assert recipe({"a": {"human": 9}, "b": {"random": 9}, "c": {"rolling": 5}}).rolling_stream_kind() == "human"
    assert recipe({"b": {"random": 9}, "c": {"rolling": 5}}).rolling_stream_kind() == "random"
    assert recipe({"c": {"rolling": 5}}).rolling_stream_kind() == "human"


def test_the_stream_has_places_for_all_that_is_to_be_accepted_and_random_pairs_are_made_for_it() -> None:
    asked = recipe({"a": {"random": 10, "rolling": 30}}, mix={"heldout_pairs": 8})
    assert (asked.accept("rolling"), asked.rolling_stream_length()) == (38, 42)  # item 37 is written with 37 .. 41
    assert asked.accept("random") == 42 + 8
    beside_human = recipe({"a": {"random": 10, "rolling": 30, "human": 5}}, mix={"heldout_pairs": 8})
    assert beside_human.accept("random") == 10 + 8


@pytest.mark.parametrize("kind", ["human", "random"])
def test_an_interleaved_arm_has_a_place_for_each_rolling_pair_or_is_refused(kind: str) -> None:
    assert recipe({"a": {kind: 100, "rolling": 96} | BETWEEN}).arms["a"].rolling == 96
    assert recipe({"a": {kind: 100, "rolling": 100, "mixing": "append"}}).arms["a"].rolling == 100
    with pytest.raises(RecipeError, match=f"arms.a: its 97 rolling pairs, .* among 101 {kind} pairs, and it has 100"):
        recipe({"a": {kind: 100, "rolling": 97} | BETWEEN})
    assert recipe({"a": {kind: 100, "rolling": 100} | BETWEEN}, teach={"context_pairs_shown": 1}).arms


@pytest.mark.parametrize(
    ("arms", "problem"),
    [
        ({"a": {"random": 90, "rolling": 9, "trains": "sft"} | BETWEEN}, "arms.a: mixing 'interleave' puts rolling "
         "pairs after the human ones they were written from, and an SFT arm without human pairs has none"),
        ({"a": {"human": 90}, "b": {"random": 90, "rolling": 9} | BETWEEN}, "arms.b: rolling pairs are written along "
         "the human pairs of the arms, and this arm has random ones in their place"),
        ({"a": {"human": 90, "rolling": 9}, "b": {"random": 90, "rolling": 9}}, "arms.b: rolling pairs are written "
         "along the human pairs of the arms"),
    ],
)  # fmt: skip
def test_an_arm_whose_stream_is_not_what_rolling_pairs_are_written_along_is_refused(
    arms: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RecipeError, match=re.escape(problem)):
        recipe(arms)


def test_arms_without_a_stream_of_their_own_take_rolling_pairs_of_any() -> None:
    arms = {"a": {"human": 90, "rolling": 9}, "b": {"rolling": 9}, "c": {"random": 9, "rolling": 9, "trains": "sft"}}
    assert list(recipe(arms).arms) == ["a", "b", "c"]


def test_fewer_random_pairs_than_rolling_ones_are_written_along_are_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"teach.accept.random is 40, and rolling pairs are .* along at least 50 random"
    ):
        recipe({"a": {"random": 10, "rolling": 30}}, mix={"heldout_pairs": 8}, teach={"accept": {"random": 40}})


def test_human_pairs_whose_prompts_are_mined_cost_mined_kinds_as_many_as_are_held_out_of_them() -> None:
    corpus = {"tasks": {}, "preferences": [{"path": "p"}]}
    arms = {"a": {"human": 9, "zero_shot": 100, "few_shot": 70}}
    mined, own = (
        recipe(arms, mix={"heldout_pairs": 10}, corpus=corpus | more) for more in ({}, {"prompts": [{"path": "q"}]})
    )
    assert [(found.accept("zero_shot"), found.accept("few_shot")) for found in (mined, own)] == [(120, 80), (110, 80)]


def test_a_setting_that_says_its_default_is_no_mistake_where_it_has_no_effect() -> None:
    found = recipe({"a": {"zero_shot": 9, "synthetic_share": 0.5}},
                   mine={"rule": "gap", "judge": "nemotron", "weak_below_pass_rate": 1.0})  # fmt: skip
    assert (found.arms["a"].synthetic_share, found.mine.weak_below_pass_rate) == (0.5, 1.0)
