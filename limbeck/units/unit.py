"""A unit of work, and what units are listed with: their files and the part of the recipe that decides them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.recipe import Recipe
from limbeck.recipe.fields import Sampled
from limbeck.recipe.part import deciding_part
from limbeck.recipe.training import Optimisation

BASE = "base"
PROBLEMS = "problems"  # the input of a training that is asked some
SFT = "sft"
_STAGES = {
    "validate": "evaluate",
    "validation": "verdict",
    "validate_pairs": "compare",
    "reward_mine": "reward",
    "dpo_first": "dpo",
    "sft_first": "sft",
    "sft_arms": "sft",
    "rounds": "verdict.rounds",
}


@dataclass(frozen=True)
class Unit:
    """One unit of work: `name` is its folder in the run, `inputs` are paths, absolute or relative to the run folder.

    `part`: what of the recipe decides the result. `argument`: the arm or model a stage is called with, if any.
    """

    name: str
    inputs: Mapping[str, Path]
    part: Mapping[str, Any]
    argument: str | None = None
    keep: tuple[str, ...] = ()

    @property
    def step(self) -> str:
        """What `--until` names: the first part of the name."""
        return self.name.partition("/")[0]

    @property
    def stage(self) -> str:
        """The stage that does the work: that of the step's name, unless a stage takes several steps."""
        return _STAGES.get(self.step, self.step)


def files(folder: Path, *names: str) -> dict[str, Path]:
    """Inputs by name: `NAME.jsonl` of a folder."""
    return {name: folder / f"{name}.jsonl" for name in names}


def quiz_input(settings: Optimisation) -> dict[str, Path]:
    """The problems that a model in training is asked, where any are."""
    return {PROBLEMS: Path("corpus/validation.jsonl")} if settings.validate_problems else {}


def quiz_part(recipe: Recipe, settings: Optimisation) -> dict[str, Any]:
    """How it is asked them: as the verdict asks."""
    asked = recipe.evaluate.model_dump(mode="json", include=set(Sampled.model_fields))
    return {"problems_asked": asked} if settings.validate_problems else {}


def part_of(recipe: Recipe, *sections: str) -> dict[str, Any]:
    """What of these sections decides a result."""
    return deciding_part(recipe, set(sections))


def judges_part(recipe: Recipe, *names: str) -> dict[str, Any]:
    """What decides the scores of these judges: their settings, but not how fast they are asked or for how much."""
    settings = part_of(recipe, "judges")["judges"]
    return {name: settings.get(name, {}) for name in names}
