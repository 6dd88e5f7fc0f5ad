"""What of a recipe makes the units that judge stale, and what does not; responses that cannot be read stop a run."""

from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_classifier

from limbeck.errors import InputError, ModelError, RecipeError
from limbeck.pipeline import check, units
from limbeck.recipe import Recipe
from limbeck.recipe.file import parse_recipe


def recipe(tmp_path: Path, **sections: dict[str, Any]) -> Recipe:
    """A run on built-in problems and own prompts, with a reward model trained here and somebody's responses."""
    given = tmp_path / "given.jsonl"
    given.touch()
    own: dict[str, dict[str, Any]] = {
        "corpus": {"tasks": {}, "judging": [{"path": "x.jsonl"}]},
        "arms": {"plain": {"random": 8}},
        "evaluate": {"judges": ["verifier", "local"], "against": str(given)},
    }
    for name, section in sections.items():
        own[name] = own.get(name, {}) | section
    return parse_recipe({"name": "x", **own}, where="x.toml")


def stale(before: Recipe, after: Recipe) -> set[str]:
    """Units whose own part differs, but for the report, which shows the recipe."""
    pairs = zip(units(before, Path("/base")), units(after, Path("/base")), strict=True)
    return {old.name for old, new in pairs if old.part != new.part} - {"report"}


def test_somebodys_responses_are_judged_anew_where_the_precision_of_a_local_judge_changes(tmp_path: Path) -> None:
    changed = stale(recipe(tmp_path, model={"dtype": "fp32"}), recipe(tmp_path, model={"dtype": "bf16"}))
    assert {"evaluate/against", "evaluate/sft", "reward"} <= changed
    exact = {"judges": ["verifier"]}
    changed = stale(*(recipe(tmp_path, model={"dtype": dtype}, evaluate=exact) for dtype in ("fp32", "bf16")))
    assert "evaluate/sft" in changed
    assert "evaluate/against" not in changed  # the verifier computes nothing


def test_leave_for_the_judge_that_mined_to_judge_alone_asks_no_model_again(tmp_path: Path) -> None:
    assert stale(recipe(tmp_path), recipe(tmp_path, evaluate={"same_judge": True})) == {"verdict"}


def test_a_reward_models_card_is_measured_at_the_confidence_that_the_recipe_says(tmp_path: Path) -> None:
    changed = stale(recipe(tmp_path), recipe(tmp_path, evaluate={"confidence": 0.9}))
    assert changed == {"reward", "audit", "verdict"}


def test_a_model_that_takes_no_reward_head_stops_a_run_before_anything_is_spent(tmp_path: Path) -> None:
    two = tiny_classifier(tmp_path / "two", num_labels=2)
    with pytest.raises(ModelError, match="is a classifier with 2 labels; a reward head goes on a base or chat model"):
        check(recipe(tmp_path, reward={"base": str(two)}, evaluate={"against": None}, teach={"teacher": "worked"}))


def test_a_judge_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"evaluate\.judges: 'local' is named twice"):
        recipe(tmp_path, evaluate={"judges": ["local", "verifier", "local"]})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "holds no response"), ('{"prompt": "a"}\n', "given.jsonl, line 1: the field 'response' is missing")],
)
def test_responses_that_cannot_be_read_stop_a_run_before_anything_is_spent(
    tmp_path: Path, text: str, complaint: str
) -> None:
    asked = recipe(tmp_path)
    (tmp_path / "given.jsonl").write_text(text)
    with pytest.raises(InputError, match=complaint):
        check(asked)
