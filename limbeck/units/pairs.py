"""The units that make pairs and mix them: mine, teach, export, mix, audit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.api import reply_store
from limbeck.lm import embedding
from limbeck.recipe import Recipe
from limbeck.recipe.export import PAIR_SECTIONS
from limbeck.recipe.pairs import MadeKind
from limbeck.stages.export.files import file_format
from limbeck.students import served
from limbeck.units.reward import local_judge
from limbeck.units.unit import SFT, Unit, files, judges_part, part_of

_RIGHT = {"right": "without a false equation"}  # what a right reply of the student's is: the rule decides the pairs
_STEPS = {"steps": "each drawn anew, those of a single line too"}  # how a reply's steps are gone on from
_HELD_OUT = ("validation", "test", "transfer", "chat_heldout")


def teaching_units(recipe: Recipe, corpus: Path, taught: Sequence[MadeKind]) -> list[Unit]:
    asked = {**files(Path("mine"), "weak", "random"), **files(corpus, "fresh", "human"), **evaluation_files(corpus)}
    branches = []
    if "divergence" in taught:
        student = {"student": Path("sft/model"), **files(Path("mine"), "weak")}
        branches = [Unit("branch", student, part_of(recipe, "model", "branch") | _RIGHT | _STEPS, argument=SFT)]
        asked |= {"divergences": Path("branch/divergences.jsonl")}
    return [
        Unit(
            "mine",
            {"student": Path("sft/model"), **files(corpus, "pool"), **_mining_judge(recipe)},
            _mine_part(recipe),
            argument=SFT,
            keep=reply_store.FILE_NAMES,
        ),
        *branches,
        Unit(
            "teach",
            {**asked, **own_templates(recipe), **local_teachers(recipe), **embedder_folder(recipe)},
            _teach_part(recipe, taught),
            keep=reply_store.FILE_NAMES,
        ),
    ]


def export_unit(recipe: Recipe, made: Mapping[str, Path]) -> Unit:
    kept = {f"kept_{kind}": Path("screen") / f"{kind}.jsonl" for kind in made}
    looked_at = {f"made_{kind}": path for kind, path in made.items()}
    inputs = {**kept, **looked_at, **files(Path("screen"), "dropped")}
    if "rolling" in made and recipe.rolling_stream_kind() not in made:  # where they stand says which are held out
        inputs |= _rolling_stream(recipe)
    return Unit(
        "export", inputs, part_of(recipe, "name", "export", *PAIR_SECTIONS) | {"kinds": list(made)} | written_as()
    )


def written_as() -> dict[str, str]:
    """Rows are written otherwise once pyarrow is installed."""
    return {"format": file_format()}


def mix_unit(recipe: Recipe, arm: str) -> Unit:
    settings = recipe.arms[arm]
    inputs = files(Path("screen"), *settings.counts())
    if settings.trains == "sft":
        corpus = Path("corpus")
        if settings.starts_from == "base":
            inputs |= {"demonstrations": corpus / "demonstrations.jsonl", "chat": Path("retain/train.jsonl")}
        inputs |= {"validation": corpus / "demonstrations_validation.jsonl"}
    part = part_of(recipe, "mix") | {"arm": settings.mixture()}
    if settings.rolling and (along := recipe.rolling_stream_kind()) not in settings.counts():
        # Which rolling pairs are held out is the same for all arms, also for one without the pairs they follow.
        part |= {"rolling_stream": along}
        inputs |= _rolling_stream(recipe)
    return Unit(f"mix/{arm}", inputs, part, argument=arm)


def _rolling_stream(recipe: Recipe) -> dict[str, Path]:
    """The pairs along which rolling ones were written."""
    along = recipe.rolling_stream_kind()
    return {"rolling_stream": Path("screen" if along in recipe.pair_kinds() else "corpus") / f"{along}.jsonl"}


def audit_unit(recipe: Recipe, kinds: tuple[str, ...]) -> Unit:
    # What prompts are to cover: the human ones, or what stands for them.
    anchor = next((kind for kind in ("human", "random") if kind in kinds), None)
    mixed = {
        f"arm/{name}": Path("mix") / name / "train.jsonl" for name, arm in recipe.arms.items() if arm.trains == "dpo"
    }
    # What the first run of a `sequential` arm trains on is audited with what its second one does.
    mixed |= {
        f"first/{name}": Path("mix") / name / "first.jsonl"
        for name, arm in recipe.arms.items()
        if arm.trains == "dpo" and arm.has_first_run
    }
    return Unit(
        "audit",
        {f"kind/{kind}": path for kind, path in files(Path("screen"), *kinds).items()}
        | mixed
        | {f"anchor/{anchor or 'pool'}": Path("screen") / f"{anchor}.jsonl" if anchor else Path("corpus/pool.jsonl")},
        part_of(recipe, "audit")
        | {"arms": {name: arm.counts() for name, arm in recipe.arms.items()}, "confidence": recipe.evaluate.confidence},
    )


def evaluation_files(corpus: Path) -> dict[str, Path]:
    return {f"evaluation_{split}": corpus / f"{split}.jsonl" for split in _HELD_OUT}


def own_templates(recipe: Recipe) -> dict[str, Path]:
    """The folder of the user's own templates as an input, where the recipe names one."""
    folder = recipe.teach.templates
    return {} if folder is None else {"templates": Path(folder).expanduser().resolve()}


def _mine_part(recipe: Recipe) -> dict[str, Any]:
    part = part_of(recipe, "model", "mine") | served.part_of(recipe, SFT)
    part |= {"control_prompts": recipe.max_candidates("random")}
    mining = recipe.mining()
    return part | {"judges": judges_part(recipe, mining.judge) if mining.judge else {}, "mining": list(mining)}


def _mining_judge(recipe: Recipe) -> dict[str, Path]:
    return local_judge(recipe, "reward_mine") if recipe.mining().judge == "local" else {}


def embedder_folder(recipe: Recipe) -> dict[str, Path]:
    """A folder that the recipe names can change; the packaged encoder cannot."""
    setting = recipe.screen.embedder
    named = setting not in {embedding.NONE, embedding.PACKAGED}
    return {"embedder": Path(setting).expanduser().resolve()} if named else {}


def local_teachers(recipe: Recipe) -> dict[str, Path]:
    """The folders of teachers that lie here: another model in its place writes other pairs."""
    named = {"teacher": recipe.teach.teacher, "contrast_teacher": recipe.teach.contrast_with or ""}
    found = {
        name: Path(value.partition(":")[2].strip()).expanduser() for name, value in named.items() if _is_local(value)
    }
    return {name: folder.resolve() for name, folder in found.items() if folder.is_dir()}


def _is_local(teacher: str) -> bool:
    return teacher.partition(":")[0] == "local"


def _teach_part(recipe: Recipe, taught: Sequence[MadeKind]) -> dict[str, Any]:
    """A local teacher's words depend on the machine's precision, as a student's do."""
    local = any(map(_is_local, (recipe.teach.teacher, recipe.teach.contrast_with or "")))
    sections = ("teach", "screen", *(("model",) if local else ()))
    right = _RIGHT if {"own", "on_policy"} & set(taught) else {}
    along = {"rolling_along": recipe.rolling_stream_kind()} if "rolling" in taught else {}  # any arm's kinds decide it
    counts = {"accept": {kind: recipe.accept(kind) for kind in taught}, "heldout_pairs": recipe.mix.heldout_pairs}
    return part_of(recipe, *sections) | counts | right | along
