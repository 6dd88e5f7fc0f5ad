"""The units that judge: every model asked and scored, then the verdict."""

from pathlib import Path

from limbeck.api import reply_store
from limbeck.recipe import Recipe
from limbeck.students import served
from limbeck.unit import BASE, SFT, Unit, files, judges_part, part_of


def _models(recipe: Recipe, base: Path) -> dict[str, Path]:
    trained = {arm: Path(recipe.arm_unit(arm)) / "model" for arm in recipe.arms}
    return {BASE: base, SFT: Path("sft/model"), **trained}


def evaluate_units(recipe: Recipe, base: Path) -> list[Unit]:
    asked = {**files(Path("corpus"), "test", "transfer"), "chat_heldout": Path("retain/heldout.jsonl")}
    # Ties and confidence belong to the verdict: replies and scores do not depend on them.
    settings = recipe.evaluate.model_dump(mode="json", exclude={"ties", "confidence", "against"})
    part = part_of(recipe, "model") | {"evaluate": settings, "judges": judges_part(recipe, *recipe.judged_by())}
    part |= {"chat": recipe.corpus.chat and recipe.corpus.chat.model_dump()}
    return [
        Unit(
            f"evaluate/{name}",
            {"model": path, **asked},
            part | served.part_of(recipe, name),
            argument=name,
            keep=reply_store.FILE_NAMES,
        )
        for name, path in _models(recipe, base).items()
    ]


def verdict_unit(recipe: Recipe) -> Unit:
    inputs = files(Path("corpus"), "test", "transfer")
    for name in (BASE, SFT, *recipe.arms):
        folder = Path("evaluate") / name
        inputs[f"{name}/replies"] = folder / "replies.jsonl"
        inputs[f"{name}/retention"] = folder / "retention.json"
        for judge in recipe.judged_by():
            inputs[f"{name}/judgements_{judge}"] = folder / f"judgements_{judge}.jsonl"
    trains = {name: arm.trains for name, arm in recipe.arms.items()}
    mined_by = recipe.mine.judge if recipe.mines() else None  # the sentence says where that is the only judge
    part = part_of(recipe, "evaluate") | {"judges": recipe.judged_by(), "arms": trains, "mined_by": mined_by}
    part |= {"alarms": recipe.alarms.model_dump(mode="json")}  # of replies; they cost no training
    return Unit("verdict", inputs, part)
