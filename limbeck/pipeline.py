"""The pipeline as one list: every unit of work, what it reads, which part of the recipe decides it, who does it.

Read `units` from top to bottom: it is the table of contents. A unit is fresh when its inputs, its part of the recipe
and its outputs have the digests that its manifest names; only stale ones run (conductor.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.api import reply_store
from limbeck.errors import RecipeError
from limbeck.judges import make_judge
from limbeck.lm import lora
from limbeck.manifest import MANIFEST
from limbeck.recipe import Recipe
from limbeck.students import served
from limbeck.teachers import teacher_for

BASE = "base"
SFT = "sft"
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
    def stage(self) -> str:
        """The stage that does the work: the first part of the name."""
        return self.name.partition("/")[0]


def check(recipe: Recipe) -> None:
    """See that a whole run of the recipe is possible, before anything is spent.

    Raises:
        RecipeError: naming what is missing; TeacherError: where a teacher or a judge lacks its key.
    """
    lora.check_installed(recipe)
    served.check_names(recipe, (BASE, SFT, *recipe.arms))
    corpus, kinds = recipe.corpus, recipe.pair_kinds()
    if not (corpus.tasks or corpus.demonstrations):
        raise RecipeError("corpus: nothing to learn from; give [corpus.tasks] or [[corpus.demonstrations]]")
    if "human" in kinds and not corpus.preferences:
        raise RecipeError("an arm asks for human pairs, but [[corpus.preferences]] is empty")
    if not (corpus.evaluation or (corpus.tasks and corpus.tasks.test)):
        raise RecipeError("no held-out prompt to judge by: ask for corpus.tasks.test or give [[corpus.evaluation]]")
    mines = any(kind != "human" for kind in kinds)
    if not corpus.tasks and ("verifier" in recipe.evaluate.judges or (mines and recipe.mine.judge == "verifier")):
        raise RecipeError("the verifier judges built-in tasks only; give [corpus.tasks] or another judge")
    if mines:
        teacher_for(recipe).check()
    for name in {*recipe.evaluate.judges, *((recipe.mine.judge,) if mines else ())}:
        make_judge(name, recipe, store=Path(reply_store.FILE_NAME)).check()


def units(recipe: Recipe, base: Path) -> tuple[Unit, ...]:
    """Every unit of the recipe's run, in order; `base` is the folder of the student's base model."""
    corpus = Path("corpus")
    kinds: tuple[str, ...] = tuple(recipe.pair_kinds())
    taught = tuple(kind for kind in kinds if kind != "human")
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
        listed += [
            Unit(
                "mine",
                {"student": Path("sft/model"), **_files(corpus, "pool")},
                _mine_part(recipe),
                argument=SFT,
                keep=reply_store.FILE_NAMES,
            ),
            Unit(
                "teach",
                {
                    **_files(Path("mine"), "weak", "random"),
                    **_files(corpus, "fresh", "human"),
                    **_local_teacher(recipe),
                },
                _part(recipe, "teach", "mix") | {"kinds": dict(recipe.pair_kinds())},
                keep=reply_store.FILE_NAMES,
            ),
        ]
    if kinds:
        pairs = {kind: (corpus if kind == "human" else Path("teach")) / f"{kind}.jsonl" for kind in kinds}
        evaluation = {f"evaluation_{split}": corpus / f"{split}.jsonl" for split in _HELD_OUT}
        listed.append(Unit("screen", {**pairs, **evaluation}, _part(recipe, "screen")))
    for arm in recipe.arms:
        listed += _arm_units(recipe, arm, base)
    listed += _evaluate_units(recipe, base)
    listed.append(_verdict_unit(recipe))
    manifests = {unit.name: Path(unit.name) / MANIFEST for unit in listed}
    return (*listed, Unit("report", manifests, _all_of(recipe)))


def _arm_units(recipe: Recipe, arm: str, base: Path) -> list[Unit]:
    mixed = Path("mix") / arm
    return [
        Unit(
            f"mix/{arm}",
            _files(Path("screen"), *recipe.arms[arm].counts()),
            _part(recipe, "mix") | {"arm": recipe.arms[arm].model_dump()},
            argument=arm,
        ),
        Unit(
            f"dpo/{arm}",
            {
                "pairs": mixed / "train.jsonl",
                "validation": mixed / "validation.jsonl",
                "policy": Path("sft/model"),
                "reference": Path("sft/model") if recipe.dpo.reference == "sft" else base,
            },
            _part(recipe, "model", "dpo"),
            argument=arm,
        ),
    ]


def _models(recipe: Recipe, base: Path) -> dict[str, Path]:
    trained = {arm: Path("dpo") / arm / "model" for arm in recipe.arms}
    return {BASE: base, SFT: Path("sft/model"), **trained}


def _evaluate_units(recipe: Recipe, base: Path) -> list[Unit]:
    asked = {**_files(Path("corpus"), "test", "transfer"), "chat_heldout": Path("retain/heldout.jsonl")}
    # Ties and confidence belong to the verdict: replies and scores do not depend on them.
    part = _part(recipe, "model") | {
        "evaluate": recipe.evaluate.model_dump(mode="json", exclude={"ties", "confidence"})
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
    return Unit("verdict", inputs, _part(recipe, "evaluate") | {"arms": list(recipe.arms)})


def _files(folder: Path, *names: str) -> dict[str, Path]:
    return {name: folder / f"{name}.jsonl" for name in names}


def _part(recipe: Recipe, *sections: str) -> dict[str, Any]:
    return whole_part(recipe, include=set(sections))


def whole_part(recipe: Recipe, include: set[str] | None = None) -> dict[str, Any]:
    """The recipe, or some of its sections, without what changes nothing in what is trained: how often a checkpoint is
    written, what is computed twice to save memory, how a server is asked.
    """
    without = {"checkpoint_every_minutes", "gradient_checkpointing"}
    part = recipe.model_dump(mode="json", include=include, exclude={"sft": without, "dpo": without, "servers": True})
    return part | (served.part_of(recipe, *recipe.servers) if include is None else {})


def _all_of(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude={"servers"}) | served.part_of(recipe, *recipe.servers)


def _mine_part(recipe: Recipe) -> dict[str, Any]:
    part = _part(recipe, "model", "mine") | served.part_of(recipe, SFT)
    if recipe.mine.judge != "verifier":
        part |= {"reward_model": recipe.evaluate.reward_model, "reward": recipe.evaluate.reward.model_dump()}
    return part


def _local_teacher(recipe: Recipe) -> dict[str, Path]:
    """The folder of a teacher that lies here: another model in its place writes other pairs."""
    provider, _, name = recipe.teach.teacher.partition(":")
    folder = Path(name.strip()).expanduser()
    return {"teacher": folder.resolve()} if provider == "local" and folder.is_dir() else {}


def _local_sources(recipe: Recipe) -> dict[str, Path]:
    corpus = recipe.corpus
    sources = (*corpus.demonstrations, *corpus.preferences, *corpus.prompts, *corpus.evaluation)
    paths = [Path(source.path).expanduser() for source in sources]
    return {f"source_{number}": path.resolve() for number, path in enumerate(paths) if path.exists()}
