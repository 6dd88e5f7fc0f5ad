"""The units that judge: every model asked and scored, then the verdict."""

from pathlib import Path

from limbeck.api import reply_store
from limbeck.judges import pairwise_text
from limbeck.manifest import MANIFEST
from limbeck.recipe import Recipe
from limbeck.recipe_verdict import AGAINST
from limbeck.students import served
from limbeck.unit import BASE, SFT, Unit, files, judges_part, part_of
from limbeck.units_reward import local_judge


def _models(recipe: Recipe, base: Path) -> dict[str, Path]:
    trained = {arm: Path(recipe.arm_unit(arm)) / "model" for arm in recipe.arms}
    return {BASE: base, SFT: Path("sft/model"), **trained}


def evaluate_units(recipe: Recipe, base: Path) -> list[Unit]:
    asked = files(Path("corpus"), "test", "transfer")
    if "local" in recipe.judged_by():
        asked |= local_judge(recipe, "reward")
    judges = judges_part(recipe, *recipe.judged_by())
    # What belongs to the verdict: replies and scores do not depend on it.
    settings = recipe.evaluate.model_dump(mode="json", exclude={"ties", "confidence", "against", "same_judge"})
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
        judged: dict[str, object] = {"judges": judges}
        if "local" in recipe.judged_by():  # its scores depend on the machine's precision
            judged |= {"machine": part_of(recipe, "model")["model"]}
        units.append(Unit(f"evaluate/{AGAINST}", given, judged, argument=AGAINST, keep=reply_store.FILE_NAMES))
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


def compare_units(recipe: Recipe) -> list[Unit]:
    """One unit a model but the baseline, where a pairwise judge compares them."""
    if "pairwise" not in recipe.judged_by():
        return []
    asked = files(Path("corpus"), "test", "transfer")
    asked |= {"baseline": Path("evaluate") / SFT / "replies.jsonl"} | _local_judge(recipe)
    part = {"judges": judges_part(recipe, "pairwise"), "template": pairwise_text.template().id}
    if _local_judge(recipe):  # its words depend on the machine's precision, as a student's do
        part["machine"] = part_of(recipe, "model")["model"]
    return [
        Unit(f"compare/{name}", {"replies": Path("evaluate") / name / "replies.jsonl", **asked}, part, argument=name)
        for name in (BASE, *recipe.arms)
    ]


def _local_judge(recipe: Recipe) -> dict[str, Path]:
    """The folder of a judge that lies here: another model in its place judges otherwise."""
    provider, _, model = (recipe.judges.pairwise.model or "").partition(":")
    folder = Path(model.strip()).expanduser()
    return {"judge": folder.resolve()} if provider == "local" and folder.is_dir() else {}


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
    inputs |= _preferences(recipe) | _reward_card(recipe) | _paid(recipe)
    trains = {name: arm.trains for name, arm in recipe.arms.items()}
    part = part_of(recipe, "evaluate") | {"judges": recipe.judged_by(), "arms": trains}
    part |= {"mined_alone": recipe.mined_alone()}  # the sentence says so
    part |= {"judge_settings": judges_part(recipe, *recipe.judged_by())}  # their cards quote them
    part |= {"alarms": recipe.alarms.model_dump(mode="json")}  # of replies; they cost no training
    return Unit("verdict", inputs, part)


def _preferences(recipe: Recipe) -> dict[str, Path]:
    """What a pairwise judge says of every model beside SFT."""
    if "pairwise" not in recipe.judged_by():
        return {}
    return {f"{name}/preferences": Path("compare") / name / "preferences.jsonl" for name in (BASE, *recipe.arms)}


def _reward_card(recipe: Recipe) -> dict[str, Path]:
    """What was measured of the local reward model: by this run where it trains it, else beside the model's folder."""
    if "local" not in recipe.judged_by():
        return {}
    if not recipe.judges.local.is_named:
        return {"reward_card": Path("reward/card.json")}
    card = Path(recipe.judges.local.model).expanduser().resolve().parent / "card.json"
    return {"reward_card": card} if card.is_file() else {}


def _paid(recipe: Recipe) -> dict[str, Path]:
    """The manifests that say what was paid to a teacher; one on this machine is paid by nobody."""
    paid = recipe.mines() and recipe.teach.teacher.startswith("openai:")
    return {"paid/teach": Path("teach") / MANIFEST} if paid else {}
