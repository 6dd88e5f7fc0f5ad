"""Which units the report counts: those that the recipe's run has, in its order."""

from pathlib import Path

from limbeck import pipeline
from limbeck.recipe import Recipe
from limbeck.stages.report.gather import _units


def test_the_reports_units_are_those_of_the_pipeline() -> None:
    mixed = {"human": 4, "zero_shot": 4}
    arms = {
        "plain": mixed,
        "seq": {**mixed, "mixing": "sequential"},
        "told": {**mixed, "mixing": "sequential", "trains": "sft"},
    }
    for chosen in (arms, {"told": arms["told"]}, {"people": {"human": 4}}, {}):
        made = Recipe.model_validate({"name": "r", "corpus": {"tasks": {}}, "arms": chosen})
        units = [unit.name for unit in pipeline.units(made, Path("base"))]
        assert [*_units(made), "report"] == units
