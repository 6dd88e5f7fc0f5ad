"""The units that judge: every model asked and scored, then the verdict."""

from pathlib import Path

from limbeck.api import reply_store
from limbeck.recipe import Recipe
from limbeck.recipe_verdict import AGAINST
from limbeck.students import served
from limbeck.unit import BASE, SFT, Unit, files, judges_part, part_of


def _models(recipe: Recipe, base: Path) -> dict[str, Path]:
    trained = {arm: Path(recipe.arm_unit(arm)) / "model" for arm in recipe.arms}
    return {BASE: base, SFT: Path("sft/model"), **trained}


def evaluate_units(recipe: Recipe, base: Path) -> list[Unit]:
    asked = files(Path("corpus"), "test", "transfer")
    judges = judges_part(recipe, *recipe.judged_by())
    # Ties and confidence belong to the verdict: replies and scores do not depend on them.
    settings = recipe.evaluate.model_dump(mode="json", exclude={"ties", "confidence", "against"})
    part = part_of(recipe, "model") | {"evaluate": settings, "judges": judges}
    part |= {"chat": recipe.corpus.chat and recipe.corpus.chat.model_dump()}
    units = [
        Unit(
            f"evaluate/{name}",
            {"model": path, **asked, "chat_heldout": Path("retain/heldout.jsonl")},
            part | served.part_of(recipe, name),
            argument=name,
            keep=reply_store.FILE_NAMES,
        )
        for name, path in _models(recipe, base).items()
    ]
    if recipe.evaluate.against is not None:  # somebody else's responses, judged as a model's replies are
        given = {**asked, "responses": Path(recipe.evaluate.against).expanduser().resolve()}
        unit = Unit(f"evaluate/{AGAINST}", given, {"judges": judges}, argument=AGAINST, keep=reply_store.FILE_NAMES)
        units.append(unit)
    return units


def heldout_pairs_units(recipe: Recipe, base: Path) -> list[Unit]:
    """Every model over the pairs that the DPO arms hold out.

    Apart from `evaluate`, whose replies do not depend on them: a further arm asks no other model for a reply again.
    """
    heldout = {
        f"heldout_pairs/{name}": Path("mix") / name / "validation.jsonl"
        for name, arm in recipe.arms.items()
        if arm.trains == "dpo"
    }
    part = part_of(recipe, "model")
    return [
        Unit(f"heldout_pairs/{name}", {"model": path, **heldout}, part, argument=name)
        for name, path in _models(recipe, base).items()
        if heldout
    ]


def verdict_unit(recipe: Recipe) -> Unit:
    inputs = files(Path("corpus"), "test", "transfer")
    judges = [judge for judge in recipe.judged_by() if judge != "pairwise"]  # it judges no reply by itself
    dpo = any(arm.trains == "dpo" for arm in recipe.arms.values())
    against = () if recipe.evaluate.against is None else (AGAINST,)
    for name in (BASE, SFT, *recipe.arms, *against):
        folder = Path("evaluate") / name
        inputs[f"{name}/replies"] = folder / "replies.jsonl"
        inputs[f"{name}/retention"] = folder / "retention.json"
        if dpo and name != AGAINST:
            inputs[f"{name}/pair_logps"] = Path("heldout_pairs") / name / "pair_logps.jsonl"
        for judge in judges:
            inputs[f"{name}/judgements_{judge}"] = folder / f"judgements_{judge}.jsonl"
    trains = {name: arm.trains for name, arm in recipe.arms.items()}
    mined_by = recipe.mine.judge if recipe.mines() else None  # the sentence says where that is the only judge
    part = part_of(recipe, "evaluate") | {"judges": recipe.judged_by(), "arms": trains, "mined_by": mined_by}
    return Unit("verdict", inputs, part)
