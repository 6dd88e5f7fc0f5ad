"""Published figures in a recipe: what is refused, and that the packaged paper's numbers are those that it prints."""

from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import RecipeError
from limbeck.recipe import Recipe
from limbeck.recipe.file import load_recipe, packaged_recipe, parse_recipe, write_recipe


def made(**published: Any) -> Recipe:
    section = {"title": "Table 1", "source": "A paper", "table": {"sft": {"average_reward": -27.9}}} | published
    data = {"name": "r", "corpus": {"tasks": {}}, "arms": {"human": {"human": 4}}, "published": section}
    return parse_recipe(data, where="r.toml")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"table": {"humans": {"win_rate": 0.5}}}, "published.table.humans: no model of this recipe; there are base,"),
        ({"table": {"human": {"winrate": 0.5}}}, "key 'published.table.human.winrate'; did you mean 'win_rate'?"),
        ({"table": {"human": {"win_rate": 60}}}, "published.table.human.win_rate"),
        ({"table": {}}, "published.table"),
        ({"titel": "T"}, "did you mean 'title'?"),
        ({"ties": "win"}, "published.ties"),
        ({"notes": ("two\nlines",)}, "published.notes.0"),
        ({"figures": ({"unit": "dpo/humans", "value": "loss", "title": "F"},)},
         "published.figures.0.unit: nothing is trained in 'dpo/humans'; there are sft, dpo/human"),
    ],
)  # fmt: skip
def test_what_cannot_be_set_beside_anything_is_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as error:
        made(**wrong)
    assert said in str(error.value)


def test_somebody_elses_responses_may_have_a_row_where_the_recipe_has_them() -> None:
    data = {"name": "r", "corpus": {"tasks": {}}, "evaluate": {"against": "their.jsonl"},
            "published": {"title": "T", "source": "S", "table": {"against": {"win_rate": 0.5}}}}  # fmt: skip
    assert parse_recipe(data, where="r.toml").published is not None


def test_the_section_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    recipe = load_recipe(packaged_recipe("paper"))
    write_recipe(tmp_path / "recipe.toml", recipe)
    assert load_recipe(tmp_path / "recipe.toml") == recipe and recipe.published is not None


def test_the_papers_recipe_holds_the_numbers_that_the_paper_prints() -> None:
    published = load_recipe(packaged_recipe("paper")).published
    assert published is not None and published.ties == "loss" and published.prompts == 2000
    rows = {name: (row.win_rate, row.average_reward) for name, row in published.table.items()}
    assert rows == {
        "sft": (None, -27.9), "human": (0.60, -25.3), "human+zero_shot": (0.56, -27.1), "human+few_shot": (0.53, -27.6)
    }  # fmt: skip
    assert [(figure.unit, figure.value) for figure in published.figures] == [
        ("dpo/human+zero_shot", "loss"), ("dpo/human+few_shot", "accuracy"), ("dpo/human+few_shot", "loss"),
    ]  # fmt: skip
