"""A recipe judged on validation problems: folders of its own, the test left alone, and nothing trained again for it."""

from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import RecipeError
from limbeck.pipeline import check, units
from limbeck.recipe import Recipe
from limbeck.recipe.file import parse_recipe
from limbeck.units.unit import Unit


def listed(on: str, **more: Any) -> dict[str, Unit]:
    return {unit.name: unit for unit in units(recipe(on, **more), Path("/base"))}


def recipe(on: str, **more: Any) -> Recipe:
    data = {"name": "x", "corpus": {"tasks": more.pop("tasks", {})}, "arms": {"a": {"random": 8}}}
    return parse_recipe(data | {"evaluate": {"on": on}} | more, where="x.toml")


def test_validation_reads_no_test_file_and_writes_beside_the_test() -> None:
    units = listed("validation")
    assert units["validate/a"].stage == "evaluate"
    assert units["validation"].stage == "verdict"
    read = {str(path) for unit in units.values() for path in unit.inputs.values()}
    judging = {str(path) for name in ("validate/a", "validation") for path in units[name].inputs.values()}
    assert "corpus/validation.jsonl" in judging
    assert not {"corpus/test.jsonl", "corpus/transfer.jsonl"} & judging
    assert "corpus/test.jsonl" in read  # screening keeps training clear of it
    assert not {"evaluate/a", "verdict", "report"} & units.keys()


def test_going_over_to_the_test_makes_nothing_stale_that_trains() -> None:
    before, after = listed("validation"), listed("test")
    shared = before.keys() & after.keys()
    assert {"sft", "mine", "teach", "mix/a", "dpo/a", "heldout_pairs/a"} <= shared
    assert {name for name in shared if before[name] != after[name]} == set()


def test_validation_without_such_problems_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"corpus\.tasks\.validation"):
        check(recipe("validation", tasks={"validation": 0}))
