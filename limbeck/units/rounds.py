"""Units of a further round: those of a run of one arm, without what all rounds share; and the unit that adds rounds up.

A round's recipe is the run's with its one arm, a seed of its own and the number of the round (`rounds.number`).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from limbeck.manifest import MANIFEST
from limbeck.recipe import Recipe
from limbeck.recipe.rounds import MOST_ROUNDS, arm_going_on, unit_going_on
from limbeck.records.rounds import Stopped
from limbeck.round_folders import ROUNDS, place_in_round, round_folder
from limbeck.units.unit import Unit, part_of

# What all rounds share, and models that were asked before: a round has no unit of them.
_SHARED_STEPS = {"corpus", "retain", "sft", "reward", "reward_mine"}
_SHARED_UNITS = {"evaluate/base", "evaluate/sft", "evaluate/against", "compare/base"}
_NOT_SAID = "base/preferences"  # nobody is paid to compare the base model with another student in every round


def units_of_round(listed: Sequence[Unit], recipe: Recipe) -> list[Unit]:
    """The units of a further round, out of all that its recipe has but the report, with inputs where they lie."""
    number, trained = recipe.rounds.number, unit_going_on(recipe.rounds, recipe.arms)
    own = [unit for unit in listed if unit.step not in _SHARED_STEPS and unit.name not in _SHARED_UNITS]
    return [_moved(unit, number, trained, _more_inputs(unit, recipe, number)) for unit in own]


def _moved(unit: Unit, number: int, trained: str, more: dict[str, Path]) -> Unit:
    inputs = {name: path for name, path in unit.inputs.items() if name != _NOT_SAID} | more
    return replace(unit, inputs={name: place_in_round(path, number, trained) for name, path in inputs.items()})


def _more_inputs(unit: Unit, recipe: Recipe, number: int) -> dict[str, Path]:
    """What mining in a further round looks at besides: whom earlier rounds asked, and what a judge learnt from."""
    if unit.step != "mine":
        return {}
    run = Path("../..")
    found = {f"asked_{one}": round_folder(run, one) / "mine" / "replies.jsonl" for one in range(1, number)}
    if "reward" in recipe.reward_units() and recipe.pairs_for_judging() == "teacher":
        found["judging"] = run / "screen" / "judging.jsonl"
    return found


def rounds_unit(recipe: Recipe, done: int = 1, stopped: Stopped = "all") -> Unit:
    """What the first `done` rounds gained, and why there are no more."""
    arm = arm_going_on(recipe.rounds, recipe.arms)
    judges = [judge for judge in recipe.judged_by() if judge != "pairwise"]
    inputs = {"test": Path("corpus/test.jsonl")}
    models = {"sft": Path("evaluate/sft")}
    for number in range(1, done + 1):
        folder, name = round_folder(Path(), number), f"round_{number}"
        models[name] = folder / "evaluate" / arm
        inputs[f"{name}/verdict"] = folder / "verdict" / "verdict.json"
        inputs |= {f"{name}/made/{unit}": folder / unit / MANIFEST for unit in _making_units(recipe, arm)}
    for name, folder in models.items():
        inputs[f"{name}/replies"] = folder / "replies.jsonl"
        inputs |= {f"{name}/judgements_{judge}": folder / f"judgements_{judge}.jsonl" for judge in judges}
    part: dict[str, Any] = {"rounds": recipe.rounds.model_dump(mode="json") | {"arm": arm}, "done": done}
    part |= {"stopped": stopped, "judges": recipe.judged_by(), **part_of(recipe, "evaluate")}
    # The folders of rounds lie in this unit's own, those of a recipe that asked for more included.
    keep = tuple(str(number) for number in range(2, MOST_ROUNDS + 1))
    return Unit(ROUNDS, inputs, part, argument=stopped, keep=keep)


def _making_units(recipe: Recipe, arm: str) -> list[str]:
    """The units between the last model and the arm's."""
    first = recipe.first_run_unit(arm)
    branches = "divergence" in recipe.arms[arm].counts()
    return ["mine", *(("branch",) if branches else ()), "teach", "screen", f"mix/{arm}",
            *((first,) if first else ()), recipe.arm_unit(arm)]  # fmt: skip
