"""The units that judge: every model asked and scored, then the verdict."""

from pathlib import Path
from typing import NamedTuple

from limbeck.api import reply_store
from limbeck.errors import InputError
from limbeck.judges import pairwise_text
from limbeck.manifest import MANIFEST
from limbeck.recipe import Recipe
from limbeck.recipe.verdict import AGAINST
from limbeck.records.verdict import JudgeCard
from limbeck.store import read_record
from limbeck.students import served
from limbeck.units.reward import local_judge
from limbeck.units.unit import BASE, SFT, Unit, files, judges_part, part_of

SAID_OF_REPLIES = {
    "ties",
    "confidence",
    "against",
    "same_judge",
    "on",
}  # of `evaluate`; no reply depends on them


def steps_of(recipe: Recipe) -> "Steps":
    """Where the models are asked, compared and judged."""
    return _VALIDATION if recipe.evaluate.on == "validation" else _TEST


class Steps(NamedTuple):
    """The folders of evaluation, of pairwise comparison and of the verdict, and the held-out prompts by split."""

    evaluate: str
    compare: str
    verdict: str
    asked: dict[str, Path]


_TEST = Steps("evaluate", "compare", "verdict", files(Path("corpus"), "test", "transfer"))
_VALIDATION = Steps("validate", "validate_pairs", "validation", {"test": Path("corpus/validation.jsonl")})


def _models(recipe: Recipe, base: Path) -> dict[str, Path]:
    trained = {arm: Path(recipe.arm_unit(arm)) / "model" for arm in recipe.arms}
    return {BASE: base, SFT: Path("sft/model"), **trained}


def evaluate_units(recipe: Recipe, base: Path) -> list[Unit]:
    steps = steps_of(recipe)
    asked = dict(steps.asked)
    if "local" in recipe.judged_by():
        asked |= local_judge(recipe, "reward")
    judges = judges_part(recipe, *recipe.judged_by())
    settings = recipe.evaluate.model_dump(mode="json", exclude=SAID_OF_REPLIES)
    part = part_of(recipe, "model") | {"evaluate": settings, "judges": judges}
    part |= {"chat": recipe.corpus.chat and recipe.corpus.chat.model_dump()}
    units = [
        Unit(
            f"{steps.evaluate}/{name}",
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
        name, keep = f"{steps.evaluate}/{AGAINST}", reply_store.FILE_NAMES
        units.append(Unit(name, given, judged, argument=AGAINST, keep=keep))
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
        Unit(f"heldout_pairs/{name}", {"model": path, **heldout, **_trained_on(recipe, name)}, part, argument=name)
        for name, path in _models(recipe, base).items()
        if heldout
    ]


def _trained_on(recipe: Recipe, name: str) -> dict[str, Path]:
    """What an arm trained on: another may hold out one of its prompts."""
    arm = recipe.arms.get(name)
    files_of = () if arm is None else ("train", "first") if arm.mixing == "sequential" else ("train",)
    return {f"trained/{file}": Path("mix") / name / f"{file}.jsonl" for file in files_of}


def compare_units(recipe: Recipe) -> list[Unit]:
    """One unit a model but the baseline, where a pairwise judge compares them."""
    if "pairwise" not in recipe.judged_by():
        return []
    steps = steps_of(recipe)
    asked = {**steps.asked, "baseline": Path(steps.evaluate) / SFT / "replies.jsonl", **_local_judge(recipe)}
    part = {"judges": judges_part(recipe, "pairwise"), "template": pairwise_text.template().id}
    if _local_judge(recipe):  # its words depend on the machine's precision, as a student's do
        part["machine"] = part_of(recipe, "model")["model"]
    return [
        Unit(
            f"{steps.compare}/{name}",
            {"replies": Path(steps.evaluate) / name / "replies.jsonl", **asked},
            part,
            argument=name,
        )
        for name in (BASE, *recipe.arms)
    ]


def _local_judge(recipe: Recipe) -> dict[str, Path]:
    """The folder of a judge that lies here: another model in its place judges otherwise."""
    provider, _, model = (recipe.judges.pairwise.model or "").partition(":")
    folder = Path(model.strip()).expanduser()
    return {"judge": folder.resolve()} if provider == "local" and folder.is_dir() else {}


def verdict_unit(recipe: Recipe) -> Unit:
    steps = steps_of(recipe)
    inputs = dict(steps.asked)
    judges = [judge for judge in recipe.judged_by() if judge != "pairwise"]  # it judges no reply by itself
    dpo = any(arm.trains == "dpo" for arm in recipe.arms.values())
    against = () if recipe.evaluate.against is None else (AGAINST,)
    for name in (BASE, SFT, *recipe.arms, *against):
        folder = Path(steps.evaluate) / name
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
    return Unit(steps.verdict, inputs, part)


def _preferences(recipe: Recipe) -> dict[str, Path]:
    """What a pairwise judge says of every model beside SFT."""
    if "pairwise" not in recipe.judged_by():
        return {}
    steps = steps_of(recipe)
    return {f"{name}/preferences": Path(steps.compare) / name / "preferences.jsonl" for name in (BASE, *recipe.arms)}


def _reward_card(recipe: Recipe) -> dict[str, Path]:
    """What was measured of the local reward model: by this run where it trains it, else beside the model's folder."""
    if "local" not in recipe.judged_by():
        return {}
    if not recipe.judges.local.is_named:
        return {"reward_card": Path("reward/card.json")}
    card = Path(recipe.judges.local.model).expanduser().resolve().parent / "card.json"
    return {"reward_card": card} if card.is_file() and _is_card(card) else {}


def _is_card(path: Path) -> bool:
    """Whether a file that is called so is a judge's card: a fetched model may lie beside a `card.json` of its own."""
    try:
        read_record(path, JudgeCard)
    except InputError:
        return False
    return True


def _paid(recipe: Recipe) -> dict[str, Path]:
    """The manifests that say what was paid to a teacher; one on this machine is paid by nobody."""
    paid = recipe.mines() and recipe.teach.teacher.startswith("openai:")
    return {"paid/teach": Path("teach") / MANIFEST} if paid else {}
