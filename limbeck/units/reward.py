"""The units that train a judge: a reward model from preference pairs that no arm trains on.

`reward` judges the result, `reward_mine` mines: two models from pairs of different prompts, since a learned judge that
mined must not be the only one of the result. Where nobody but the teacher has written pairs there is `reward` alone,
after screening, and nothing can judge at mining.
"""

from pathlib import Path
from typing import Literal

from limbeck.errors import RecipeError
from limbeck.lm.names import model_folder
from limbeck.recipe import Recipe
from limbeck.units.unit import Unit, judges_part, part_of

_PAIRS = {"reward": "judging", "reward_mine": "judging_mine"}


def check_judging(recipe: Recipe) -> None:
    """See that a reward model that is to be trained has pairs to learn from.

    Raises:
        RecipeError: it has none; ModelError: there is no such model to put the head on, or it takes none.
    """
    if not recipe.reward_units():
        return
    if recipe.reward.base is not None:
        from limbeck.lm.reward_head import check_reward_base

        check_reward_base(recipe.reward.base)
    if recipe.pairs_for_judging() != "teacher":
        return
    ways = "give [[corpus.judging]] or [[corpus.preferences]], or name a reward model as judges.local.model"
    kinds = recipe.pair_kinds()
    if not kinds:
        raise RecipeError(f"the judge 'local' is trained from preference pairs, and here are none: {ways}")
    if "rolling" in kinds:
        raise RecipeError("rolling pairs would be written along some of the pairs that the judge 'local' is trained "
                          f"from: {ways}")  # fmt: skip


def reward_units(recipe: Recipe, base: Path, when: Literal["before mining", "after screening"]) -> list[Unit]:
    """The reward models that are trained then; `base` is the folder of the student's base model."""
    source = recipe.pairs_for_judging()
    if (source == "teacher") != (when == "after screening"):
        return []
    start = base if recipe.reward.base is None else model_folder(recipe.reward.base)
    folder = Path("screen" if source == "teacher" else "corpus")
    part = part_of(recipe, "model", "reward") | {"pairs_of": source, "judges": judges_part(recipe, "local")}
    part |= {"confidence": recipe.evaluate.confidence}  # of the intervals on its card
    return [
        Unit(name, {"base": start, "pairs": folder / f"{_PAIRS[name]}.jsonl"}, part, argument=name)
        for name in recipe.reward_units()
    ]


def local_judge(recipe: Recipe, trained: Literal["reward", "reward_mine"]) -> dict[str, Path]:
    """What the judge `local` is made of, as inputs of a unit that asks it: a model trained here, or a named folder."""
    if trained in recipe.reward_units():
        return {"reward_model": Path(trained) / "model"}
    folder = Path(recipe.judges.local.model).expanduser()
    return {"local_judge": folder.resolve()} if recipe.judges.local.is_named and folder.is_dir() else {}


def set_aside_part(recipe: Recipe) -> dict[str, object]:
    """How many pairs of each kind screening sets aside for the judge."""
    counts = {kind: count for kind in recipe.pair_kinds() if (count := recipe.judging_pairs(kind))}
    return {"judging": counts} if counts else {}


def judging_part(recipe: Recipe) -> dict[str, object]:
    """What of the recipe, beside its own section, decides how the corpus is parted."""
    models = recipe.reward_units()
    if not models or recipe.pairs_for_judging() == "teacher":
        return {}
    return {"judging": {"models": models, "pairs": recipe.reward.pairs, "arms_need": recipe.human_needed()}}
