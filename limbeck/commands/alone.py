"""One stage alone, on the user's own files: the same units as in a run, with the user's files in the places of a run's.

Files in any format that the corpus stage reads are converted first; files that limbeck wrote itself (weak prompts,
pairs) are taken as they are, with everything that is known about their rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from limbeck import conductor, pipeline, tracking
from limbeck.api import reply_store
from limbeck.errors import InputError, RecipeError
from limbeck.judges import check_judge, preflight
from limbeck.lm import lora
from limbeck.recipe import Recipe
from limbeck.recipe.file import parse_recipe
from limbeck.recipe.verdict import Judge as JudgeName
from limbeck.records import Pair, PromptRow, Record
from limbeck.run_folder import claimed, settled
from limbeck.store import each_record, read_json_lines
from limbeck.students import served
from limbeck.teachers import contrast_teacher_for, teacher_for
from limbeck.units.reward import local_judge
from limbeck.units.unit import Unit

if TYPE_CHECKING:
    from limbeck.stages.teach.rehearsal import Rehearsed

MODEL = "model"  # what the one model that a stage alone asks is called, as in servers.model
_ASKING = ("mine", "evaluate")


def recipe_for(stage: str, data: Mapping[str, Any], overrides: tuple[str, ...]) -> Recipe:
    """A recipe for one stage alone: defaults, what the command's options say, then the overrides."""
    return parse_recipe({"name": stage, **data}, where=f"limbeck {stage}", overrides=overrides)


def run_alone(
    recipe: Recipe,
    stage: str,
    inputs: Mapping[str, Path],
    out: Path,
    argument: str | None = None,
    *,
    asks_model: bool = True,
) -> Path:
    """Run one stage in `out`, which is claimed and resumed like a run folder; returns the stage's folder there.

    Inputs are absolute paths; those that start with `corpus/` instead are made from the recipe's sources first. The
    folder of a reward model that the recipe names and that is asked counts as one more. Where no model is asked, and no
    reward model judges, this machine need not be looked at.
    """
    out = out.expanduser()
    lora.check_installed(recipe)
    tracking.check_installed(recipe.track)
    served.check_names(recipe, (MODEL,) if stage in _ASKING else (), f"limbeck {stage}")
    for name, path in inputs.items():
        if not _made_here(path) and not path.exists():
            raise InputError(f"{name}: {path} does not exist")
    corpus, *_ = pipeline.units(recipe, out)
    name = stage if argument is None or stage == "mine" else f"{stage}/{argument}"
    judges = _judges_asked(recipe, stage)
    for judge in judges:  # before the folder is this recipe's
        _check_judge(judge, recipe, inputs)
    if "local" in judges and recipe.judges.local.is_named:
        inputs = {**inputs, **local_judge(recipe, "reward")}
    with claimed(out, recipe):
        recipe = settled(recipe, out, decides=asks_model or "local" in judges)
        unit = Unit(name, inputs, pipeline.part_alone(recipe, stage), argument, keep=reply_store.FILE_NAMES)
        listed = [corpus, unit] if any(_made_here(path) for path in inputs.values()) else [unit]
        if not all(_is_fresh(each, recipe, out) for each in listed):  # what is fresh needs no server
            served.look(recipe.servers)
            for judge in judges:
                preflight(judge, recipe, out)
            if stage == "teach":
                _see_budgets(recipe)
        for each in listed:
            conductor.run_unit(each, recipe, out)
    return out / name


def _see_budgets(recipe: Recipe) -> None:
    """See that it is known what teachers may cost. Whether they can be asked may not matter: replies are stored."""
    for teacher in (teacher_for(recipe), contrast_teacher_for(recipe)):
        if teacher is not None:
            _ = teacher.budget


def _is_fresh(unit: Unit, recipe: Recipe, out: Path) -> bool:
    there = all((out / path).exists() for path in unit.inputs.values())
    return there and conductor.why_due(unit, recipe, out) is None


def _judges_asked(recipe: Recipe, stage: str) -> tuple[JudgeName, ...]:
    if stage == "mine":
        judge = recipe.mining().judge
        return () if judge is None else (judge,)
    return recipe.judged_by() if stage == "evaluate" else ()


def _check_judge(name: JudgeName, recipe: Recipe, inputs: Mapping[str, Path]) -> None:
    """See, before anything is sampled, that a judge can be asked by a stage alone."""
    if name == "pairwise":
        raise RecipeError("the judge 'pairwise' compares two models' replies, which a stage alone does not have; a "
                          "whole run asks it, or name verifier, nemotron or local")  # fmt: skip
    if name == "local" and not recipe.judges.local.is_named and "reward_model" not in inputs:
        raise RecipeError("the judge 'local' has no reward model here: name a folder or a hub id with --set "
                          "judges.local.model=MODEL; limbeck reward train makes one")  # fmt: skip
    check_judge(name, recipe)


def rehearse_alone(recipe: Recipe, inputs: Mapping[str, Path], out: Path) -> "Rehearsed":
    """What `limbeck teach` would ask and cost; only the corpus is made in `out`, where the inputs need it."""
    from limbeck.stages.teach.rehearsal import rehearse

    out = out.expanduser()
    corpus, *_ = pipeline.units(recipe, out)
    with claimed(out, recipe):
        if any(_made_here(path) for path in inputs.values()):
            conductor.run_unit(corpus, recipe, out)
    return rehearse(recipe, {name: out / path for name, path in inputs.items()})


def _made_here(path: Path) -> bool:
    return path.parts[:1] == ("corpus",)


def is_record_file(path: Path, kind: type[Record]) -> bool:
    """Whether the first line of a JSON Lines file is one of limbeck's own records of `kind`."""
    path = path.expanduser()
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    try:
        _, first = next(read_json_lines(path), (0, {}))
        kind.model_validate(first)
    except (InputError, ValidationError):  # what reads it says what is wrong, or reads it after all: an array of rows
        return False
    return True


def prompts_input(data: dict[str, Any], path: Path, name: str, kind: type[PromptRow] = PromptRow) -> dict[str, Path]:
    """The input `name` for a file of prompts: as it is where it holds records of `kind`, or through the corpus stage
    (which `data` is told of).
    """
    if is_record_file(path, kind):
        return {name: _as_it_is(path, kind)}
    data.setdefault("corpus", {})["prompts"] = [{"path": str(path)}]
    return {name: Path("corpus") / "pool.jsonl"}


def pairs_input(data: dict[str, Any], path: Path, name: str) -> dict[str, Path]:
    """The input `name` for a file of preference pairs: as it is, or through the corpus stage."""
    if is_record_file(path, Pair):
        return {name: _as_it_is(path, Pair)}
    data.setdefault("corpus", {})["preferences"] = [{"path": str(path)}]
    return {name: Path("corpus") / "human.jsonl"}


def _as_it_is(path: Path, kind: type[PromptRow]) -> Path:
    """A file of records that is not converted: its prompts are checked as those of any other file are.

    Raises:
        InputError: naming the file and its first row that is no `kind`, or whose prompt no chat template takes.
    """
    from limbeck.stages.corpus.turns import UnusableRowError, check_prompt

    path = own_file(path)
    for row in each_record(path, kind):
        try:
            check_prompt(row.prompt)
        except UnusableRowError as why:
            raise InputError(
                f"{path}, row {row.id!r}: {why}; a prompt is user and assistant by turns, behind a system turn if any, "
                "and ends with the user's"
            ) from why
    return path


def own_file(path: Path) -> Path:
    """A file of the user's as an absolute path: one that lies in a folder called `corpus` is not made here."""
    return path.expanduser().resolve()


def parse_share(text: str) -> tuple[str, Path, int]:
    """Read `KIND=FILE:COUNT`, as `limbeck mix` takes it.

    Raises:
        RecipeError: where it is anything else.
    """
    kind, equals, rest = text.partition("=")
    file, colon, count = rest.rpartition(":")
    if not (equals and colon and file and count.isdecimal()):
        raise RecipeError(f"{text!r}: expected KIND=FILE:COUNT, for instance human=pairs.jsonl:400")
    return kind, own_file(Path(file)), int(count)
