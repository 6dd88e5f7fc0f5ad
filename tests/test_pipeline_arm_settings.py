"""Arms that train otherwise than the recipe's sections say, and the control that goes on with SFT."""

from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import InputError, RecipeError
from limbeck.pipeline import units
from limbeck.recipe import Recipe
from limbeck.recipe.file import load_recipe, parse_recipe, write_recipe
from limbeck.records import Demonstration, Pair, user_prompt
from limbeck.stages import mix
from limbeck.store import read_records, write_records
from limbeck.units.unit import Unit


def parsed(**arms: dict[str, Any]) -> Recipe:
    return parse_recipe({"name": "x", "corpus": {"tasks": {}}, "dpo": {"beta": 0.1}, "arms": arms}, where="x.toml")


def unit(recipe: Recipe, name: str) -> Unit:
    return next(each for each in units(recipe, Path("/base")) if each.name == name)


def test_an_arms_own_settings_replace_the_sections_and_leave_the_rest() -> None:
    recipe = parsed(plain={"random": 8}, strong={"random": 8, "dpo": {"beta": 1.0, "reference": "base"}})
    assert (recipe.dpo_of("plain").beta, recipe.dpo_of("strong").beta) == (0.1, 1.0)
    assert recipe.dpo_of("strong").learning_rate == recipe.dpo.learning_rate
    assert unit(recipe, "dpo/plain").inputs["reference"] == Path("sft/model")
    assert unit(recipe, "dpo/strong").inputs["reference"] == Path("/base")


def test_an_edit_of_one_arms_own_settings_makes_no_other_unit_stale() -> None:
    before = parsed(plain={"random": 8}, strong={"random": 8, "dpo": {"beta": 1.0}})
    after = parsed(plain={"random": 8}, strong={"random": 8, "dpo": {"beta": 2.0}})
    changed = {
        old.name
        for old, new in zip(units(before, Path("/base")), units(after, Path("/base")), strict=True)
        if old.part != new.part
    }
    assert changed == {"dpo/strong", "report"}  # the report shows the recipe


def test_a_wrong_own_setting_is_named_by_its_place() -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'arms\.x\.dpo\.bta': \[dpo\] has no such setting"):
        parsed(x={"random": 8, "dpo": {"bta": 1}})
    with pytest.raises(RecipeError, match=r"arms\.x\.dpo\.beta: input should be greater than 0 \(found -1\)"):
        parsed(x={"random": 8, "dpo": {"beta": -1}})
    with pytest.raises(RecipeError, match="length_normalised goes with loss"):
        parsed(x={"random": 8, "dpo": {"loss": "apo_zero", "length_normalised": True}})
    with pytest.raises(RecipeError, match="sft settings are given, and the arm trains by dpo"):
        parsed(x={"random": 8, "sft": {"epochs": 1}})


def test_an_override_on_the_command_line_reaches_an_arms_own_setting(tmp_path: Path) -> None:
    write_recipe(tmp_path / "x.toml", parsed(strong={"random": 8, "dpo": {"beta": 1.0}}))
    assert load_recipe(tmp_path / "x.toml", ("arms.strong.dpo.beta=0.5",)).dpo_of("strong").beta == 0.5


def test_an_arm_that_goes_on_with_sft_starts_from_that_model_and_learns_the_chosen_responses_alone(
    tmp_path: Path,
) -> None:
    recipe = parsed(more={"random": 6, "trains": "sft", "starts_from": "sft", "sft": {"learning_rate": 1e-4}})
    training = unit(recipe, "sft_arms/more")
    assert training.inputs["base"] == Path("sft/model")
    assert training.part["sft"]["learning_rate"] == 1e-4
    assert "demonstrations" not in unit(recipe, "mix/more").inputs
    pairs = [
        Pair(id=f"p{n}", prompt=user_prompt(f"What is {n}?"), source="random", chosen=f"It is {n}.", rejected="No.")
        for n in range(40)
    ]
    held_out = Demonstration(id="v", prompt=user_prompt("Held out?"), source="tasks", response="Yes.")
    write_records(tmp_path / "random.jsonl", pairs)
    write_records(tmp_path / "validation.jsonl", [held_out])
    inputs = {"random": tmp_path / "random.jsonl", "validation": tmp_path / "validation.jsonl"}
    mix.run(recipe, inputs, tmp_path, "more")
    rows = read_records(tmp_path / "train.jsonl", Demonstration)
    assert len(rows) == 6
    assert {(row.source, row.response.startswith("It is")) for row in rows} == {("random", True)}


def test_an_sft_arm_from_the_base_still_wants_demonstrations(tmp_path: Path) -> None:
    write_records(tmp_path / "random.jsonl", [])
    with pytest.raises(InputError, match="its pairs join demonstrations"):
        mix.run(parsed(x={"random": 1, "trains": "sft"}), {"random": tmp_path / "random.jsonl"}, tmp_path, "x")


def test_dpo_cannot_be_told_where_to_start() -> None:
    with pytest.raises(RecipeError, match="starts_from"):
        parsed(x={"random": 8, "starts_from": "sft"})
