"""The pipeline as one list: every unit of work, what it reads, which part of the recipe decides it, who does it.

Read `units` from top to bottom: it is the table of contents. A unit is fresh when its inputs, its part of the recipe
and its outputs have the digests that its manifest names; only stale ones run (conductor.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from limbeck.api import reply_store
from limbeck.errors import RecipeError
from limbeck.judges import make_judge
from limbeck.lm import embedding, lora
from limbeck.manifest import MANIFEST
from limbeck.recipe import Recipe
from limbeck.recipe_export import PAIR_SECTIONS
from limbeck.recipe_pairs import MadeKind
from limbeck.recipe_part import PACE, deciding_part
from limbeck.stages.export.files import file_format
from limbeck.students import served
from limbeck.teachers import check_kinds, contrast_teacher_for, teacher_for
from limbeck.teachers.template_files import Templates

BASE = "base"
SFT = "sft"
_STAGES = {"dpo_first": "dpo", "sft_first": "sft", "sft_arms": "sft"}
_HELD_OUT = ("validation", "test", "transfer", "chat_heldout")


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


def check(recipe: Recipe) -> None:
    """See that a whole run of the recipe is possible, before anything is spent.

    Raises:
        RecipeError: naming what is missing; TeacherError: where a teacher or a judge lacks its key.
    """
    lora.check_installed(recipe)
    embedding.encoder_folder(recipe.screen.embedder)
    served.check_names(recipe, (BASE, SFT, *recipe.arms))
    corpus, kinds = recipe.corpus, recipe.pair_kinds()
    if not (corpus.tasks or corpus.demonstrations):
        raise RecipeError("corpus: nothing to learn from; give [corpus.tasks] or [[corpus.demonstrations]]")
    if "human" in kinds and not corpus.preferences:
        raise RecipeError("an arm asks for human pairs, but [[corpus.preferences]] is empty")
    if not (corpus.evaluation or (corpus.tasks and corpus.tasks.test)):
        raise RecipeError("no held-out prompt to judge by: ask for corpus.tasks.test or give [[corpus.evaluation]]")
    mines = recipe.mines()
    if not corpus.tasks and ("verifier" in recipe.evaluate.judges or (mines and recipe.mine.judge == "verifier")):
        raise RecipeError("the verifier judges built-in tasks only; give [corpus.tasks] or another judge")
    if "rolling" in kinds and not (corpus.preferences or "random" in kinds):
        raise RecipeError("an arm asks for rolling pairs, which are written with the human pairs before them: give "
                          "[[corpus.preferences]], or an arm with random pairs, which stand in for them")  # fmt: skip
    if mines:
        _check_teachers(recipe)
    for name in {*recipe.evaluate.judges, *((recipe.mine.judge,) if mines else ())}:
        make_judge(name, recipe, store=Path(reply_store.FILE_NAME)).check()


def _check_teachers(recipe: Recipe) -> None:
    check_kinds(recipe)
    teacher_for(recipe).check()
    weaker = contrast_teacher_for(recipe)
    if weaker is not None and "contrast" in recipe.pair_kinds():
        weaker.check()
    Templates(own_templates(recipe).get("templates")).check()


def units(recipe: Recipe, base: Path) -> tuple[Unit, ...]:
    """Every unit of the recipe's run, in order; `base` is the folder of the student's base model."""
    corpus = Path("corpus")
    kinds: tuple[str, ...] = tuple(recipe.pair_kinds())
    taught = tuple(kind for kind in get_args(MadeKind) if kind in kinds)
    listed = [
        Unit("corpus", _local_sources(recipe), _part(recipe, "corpus")),
        Unit(
            "retain",
            {"base": base, **_files(corpus, "chat_train", "chat_heldout")},
            _part(recipe, "model")
            | {"chat": recipe.corpus.chat and recipe.corpus.chat.model_dump()}
            | served.part_of(recipe, BASE),
        ),
        Unit(
            "sft",
            {
                "base": base,
                "demonstrations": corpus / "demonstrations.jsonl",
                "validation": corpus / "demonstrations_validation.jsonl",
                "chat": Path("retain/train.jsonl"),
            },
            _part(recipe, "model", "sft"),
        ),
    ]
    if taught:
        listed += _teaching_units(recipe, corpus, taught)
    if kinds:
        pairs = {kind: (corpus if kind == "human" else Path("teach")) / f"{kind}.jsonl" for kind in kinds}
        read = {**pairs, **_evaluation(corpus), **_embedder(recipe), **(own_templates(recipe) if taught else {})}
        listed += [Unit("screen", read, _part(recipe, "screen")), _export_unit(recipe, pairs)]
    listed += [_mix_unit(recipe, arm) for arm in recipe.arms]
    if kinds:
        listed.append(_audit_unit(recipe, kinds))  # between the last mixture and the first training step of any arm
    for trains in ("dpo", "sft"):
        arms = [arm for arm, settings in recipe.arms.items() if settings.trains == trains]
        runs = ((name, arm) for arm in arms if (name := recipe.first_run_unit(arm)))
        listed += [_training_unit(recipe, arm, base, name) for name, arm in runs]
        listed += [_training_unit(recipe, arm, base, recipe.arm_unit(arm)) for arm in arms]
    listed += _evaluate_units(recipe, base)
    listed.append(_verdict_unit(recipe))
    manifests = {unit.name: Path(unit.name) / MANIFEST for unit in listed}
    return (*listed, Unit("report", manifests, _all_of(recipe)))


def _teaching_units(recipe: Recipe, corpus: Path, taught: Sequence[MadeKind]) -> list[Unit]:
    asked = {**_files(Path("mine"), "weak", "random"), **_files(corpus, "fresh", "human"), **_evaluation(corpus)}
    return [
        Unit(
            "mine",
            {"student": Path("sft/model"), **_files(corpus, "pool")},
            _mine_part(recipe),
            argument=SFT,
            keep=reply_store.FILE_NAMES,
        ),
        Unit(
            "teach",
            {**asked, **own_templates(recipe), **_local_teachers(recipe), **_embedder(recipe)},
            _teach_part(recipe, taught),
            keep=reply_store.FILE_NAMES,
        ),
    ]


def _export_unit(recipe: Recipe, made: Mapping[str, Path]) -> Unit:
    kept = {f"kept_{kind}": Path("screen") / f"{kind}.jsonl" for kind in made}
    looked_at = {f"made_{kind}": path for kind, path in made.items()}
    inputs = {**kept, **looked_at, **_files(Path("screen"), "dropped")}
    return Unit(
        "export", inputs, _part(recipe, "name", "export", *PAIR_SECTIONS) | {"kinds": list(made)} | _written_as()
    )


def _written_as() -> dict[str, str]:
    """Rows are written otherwise once pyarrow is installed."""
    return {"format": file_format()}


def _mix_unit(recipe: Recipe, arm: str) -> Unit:
    settings = recipe.arms[arm]
    inputs = _files(Path("screen"), *settings.counts())
    if settings.trains == "sft":
        corpus = Path("corpus")
        inputs |= {"demonstrations": corpus / "demonstrations.jsonl", "chat": Path("retain/train.jsonl")}
        inputs |= {"validation": corpus / "demonstrations_validation.jsonl"}
    part = _part(recipe, "mix") | {"arm": settings.model_dump()}
    if settings.rolling and (along := recipe.rolling_stream_kind()) not in settings.counts():
        # Which rolling pairs are held out is the same for all arms, also for one without the pairs they follow.
        part |= {"rolling_stream": along}
        inputs |= {"rolling_stream": Path("screen" if along in recipe.pair_kinds() else "corpus") / f"{along}.jsonl"}
    return Unit(f"mix/{arm}", inputs, part, argument=arm)


def _training_unit(recipe: Recipe, arm: str, base: Path, name: str) -> Unit:
    """One training run of an arm: its only one, or the first or the second of a `sequential` one, called `name`."""
    settings, first, mixed = recipe.arms[arm], recipe.first_run_unit(arm), Path("mix") / arm
    rows, heldout = ("first", "first_validation") if name == first else ("train", "validation")
    start = base if settings.trains == "sft" else Path("sft/model")
    if settings.mixing == "sequential" and name != first:  # a second run, from where the first one ended
        start = Path(first or "sft") / "model"
    inputs = {"validation": mixed / f"{heldout}.jsonl"}
    if settings.trains == "sft":
        inputs |= {"base": start, "demonstrations": mixed / f"{rows}.jsonl"}
        part = _part(recipe, "model", "sft") | {"reshuffles": settings.mixing == "uniform"}
        return Unit(name, inputs, part, argument=arm)
    # DPO's reference is the model it starts from (Rafailov et al. 2023). So a second run begins with margins of 0 and
    # stays near what the first one learnt; the SFT model would draw it back from there.
    inputs |= {
        "pairs": mixed / f"{rows}.jsonl",
        "policy": start,
        "reference": start if recipe.dpo.reference == "sft" else base,
    }
    return Unit(name, inputs, _part(recipe, "model", "dpo"), argument=arm)


def _audit_unit(recipe: Recipe, kinds: tuple[str, ...]) -> Unit:
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
        {f"kind/{kind}": path for kind, path in _files(Path("screen"), *kinds).items()}
        | mixed
        | {f"anchor/{anchor or 'pool'}": Path("screen") / f"{anchor}.jsonl" if anchor else Path("corpus/pool.jsonl")},
        _part(recipe, "audit")
        | {"arms": {name: arm.counts() for name, arm in recipe.arms.items()}, "confidence": recipe.evaluate.confidence},
    )


def _models(recipe: Recipe, base: Path) -> dict[str, Path]:
    trained = {arm: Path(recipe.arm_unit(arm)) / "model" for arm in recipe.arms}
    return {BASE: base, SFT: Path("sft/model"), **trained}


def _evaluate_units(recipe: Recipe, base: Path) -> list[Unit]:
    asked = {**_files(Path("corpus"), "test", "transfer"), "chat_heldout": Path("retain/heldout.jsonl")}
    # Ties and confidence belong to the verdict: replies and scores do not depend on them.
    part = _part(recipe, "model") | {
        "evaluate": recipe.evaluate.model_dump(mode="json", exclude={"ties": True, "confidence": True, "reward": PACE})
    }
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


def _verdict_unit(recipe: Recipe) -> Unit:
    inputs = _files(Path("corpus"), "test", "transfer")
    for name in (BASE, SFT, *recipe.arms):
        folder = Path("evaluate") / name
        inputs[f"{name}/replies"] = folder / "replies.jsonl"
        inputs[f"{name}/retention"] = folder / "retention.json"
        for judge in recipe.evaluate.judges:
            inputs[f"{name}/judgements_{judge}"] = folder / f"judgements_{judge}.jsonl"
    trains = {name: arm.trains for name, arm in recipe.arms.items()}
    mined_by = recipe.mine.judge if recipe.mines() else None  # the sentence says where that is the only judge
    return Unit("verdict", inputs, _part(recipe, "evaluate") | {"arms": trains, "mined_by": mined_by})


def _evaluation(corpus: Path) -> dict[str, Path]:
    return {f"evaluation_{split}": corpus / f"{split}.jsonl" for split in _HELD_OUT}


def own_templates(recipe: Recipe) -> dict[str, Path]:
    """The folder of the user's own templates as an input, where the recipe names one."""
    folder = recipe.teach.templates
    return {} if folder is None else {"templates": Path(folder).expanduser().resolve()}


def _files(folder: Path, *names: str) -> dict[str, Path]:
    return {name: folder / f"{name}.jsonl" for name in names}


def _part(recipe: Recipe, *sections: str) -> dict[str, Any]:
    return deciding_part(recipe, set(sections))


def part_alone(recipe: Recipe, stage: str) -> dict[str, Any]:
    """What decides the result of a stage alone: all of the recipe that can."""
    part = deciding_part(recipe) | served.part_of(recipe, *recipe.servers)
    return part | (_written_as() if stage == "export" else {})


def _all_of(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude={"servers"}) | served.part_of(recipe, *recipe.servers)


def _mine_part(recipe: Recipe) -> dict[str, Any]:
    part = _part(recipe, "model", "mine") | served.part_of(recipe, SFT)
    part |= {"control_prompts": recipe.max_candidates("random")}
    if recipe.mine.judge != "verifier":
        part |= {
            "reward_model": recipe.evaluate.reward_model,
            "reward": recipe.evaluate.reward.model_dump(exclude=PACE),
        }
    return part


def _embedder(recipe: Recipe) -> dict[str, Path]:
    """A folder that the recipe names can change; the packaged encoder cannot."""
    setting = recipe.screen.embedder
    named = setting not in {embedding.NONE, embedding.PACKAGED}
    return {"embedder": Path(setting).expanduser().resolve()} if named else {}


def _local_teachers(recipe: Recipe) -> dict[str, Path]:
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
    sections = ("teach", "mix", "screen", *(("model",) if local else ()))
    return _part(recipe, *sections) | {"accept": {kind: recipe.accept(kind) for kind in taught}}


def _local_sources(recipe: Recipe) -> dict[str, Path]:
    corpus = recipe.corpus
    sources = (*corpus.demonstrations, *corpus.preferences, *corpus.prompts, *corpus.evaluation)
    paths = [Path(source.path).expanduser() for source in sources]
    return {f"source_{number}": path.resolve() for number, path in enumerate(paths) if path.exists()}
