"""Which units the report counts: those that the recipe's run has."""

from pathlib import Path

from limbeck import pipeline
from limbeck.recipe import Recipe
from limbeck.stages.report.gather import _units


def test_the_report_knows_every_unit_of_the_pipeline() -> None:
    mixed = {"human": 4, "zero_shot": 4}
    arms = {
        "plain": mixed,
        "seq": {**mixed, "mixing": "sequential"},
        "told": {**mixed, "mixing": "sequential", "trains": "sft"},
    }
    branching = {"branched": {"human": 4, "divergence": 4}}
    for chosen in (arms, {"told": arms["told"]}, {"people": {"human": 4}}, branching, {}):
        made = Recipe.model_validate({"name": "r", "corpus": {"tasks": {}}, "arms": chosen})
        units = [unit.name for unit in pipeline.units(made, Path("base"))]
        reported = _units(made)
        assert {*units} - {"report"} <= {*reported}
        assert {unit.partition("/")[0] for unit in {*reported} - {*units}} <= {"heldout_pairs", "compare"}
