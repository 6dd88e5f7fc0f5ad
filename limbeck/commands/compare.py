"""The command that compares judged replies, the user's own included, or several seeds of a run. Parse, call, print."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from limbeck import seeds
from limbeck.commands.options import Seed
from limbeck.console import say, show
from limbeck.errors import InputError
from limbeck.recipe import Recipe
from limbeck.recipe.part import but_for_seed
from limbeck.records.verdict import Comparison

if TYPE_CHECKING:
    from limbeck.stages.verdict.paired import Terms


def compare(
    baseline: Annotated[
        Path, typer.Argument(help="Folder that `limbeck evaluate` wrote, or a file of judged replies.")
    ],
    candidates: Annotated[list[Path], typer.Argument(help="The same of each model to compare with it.")],
    ties: Annotated[
        Literal["half", "loss"], typer.Option(help="What a tie counts as: half a win, or (the paper) none.")
    ] = "half",
    confidence: Annotated[float, typer.Option(help="Of every interval.")] = 0.95,
    seed: Seed = 1,
) -> None:
    """Compare judged replies, or runs of several seeds arm by arm.

    A file has one JSON object a line: prompt_id, score (or solved: true, false), and if known sample_index and text.
    Of iterated runs, RUN is their first round and RUN/rounds/2 the second, compared with the last one's model.
    """
    from limbeck.commands.compared import is_run
    from limbeck.stages.verdict.paired import Terms

    if not 0 < confidence < 1:
        raise InputError(f"--confidence should lie between 0 and 1, found {confidence}")
    paths = [baseline, *candidates]
    if missing := [path for path in paths if not path.exists()]:
        raise InputError(f"{missing[0]} does not exist")
    if twice := [path for at, path in enumerate(paths) if path.resolve() in {p.resolve() for p in paths[:at]}]:
        raise InputError(f"{twice[0]} is given twice")
    terms = Terms(seeds.derive(seed, "compare"), ties, confidence)
    runs = [is_run(path) for path in paths]
    if all(runs):
        _compare_runs(paths, terms)
    elif any(runs):
        raise InputError(f"{paths[runs.index(True)]} is a whole run and {paths[runs.index(False)]} is not: give runs "
                         "of several seeds, or evaluations of single models")  # fmt: skip
    else:
        _compare_sides(paths, terms)


def _compare_sides(paths: Sequence[Path], terms: "Terms") -> None:
    from limbeck.commands.compared import common_judges, paired_sides, read_side
    from limbeck.commands.verdict_tables import show_comparisons
    from limbeck.stages.verdict.comparing import corrected
    from limbeck.stages.verdict.paired import Named
    from limbeck.stages.verdict.paired import compare as compare_rows

    sides = [replace(read_side(path), name=name) for path, name in zip(paths, _names(paths), strict=True)]
    names = [side.name for side in sides[1:]]
    if apart := [side.name for side in sides if side.asked.transfer]:
        say(f"Test prompts are compared; a run's transfer problems are left out: {', '.join(apart)}.")
    terms = replace(terms, family=len(names))
    found: list[Comparison] = []
    for judge in common_judges(sides):
        named = {side.name: Named(side.name, sides[0].name, judge) for side in sides[1:]}
        rows = {side.name: paired_sides(sides[0], side, judge) for side in sides[1:]}
        compared = [c for name in names if (c := compare_rows(rows[name], named[name], terms)) is not None]
        found += corrected(compared, names)
    if not found:
        raise InputError("no row is scored on both sides: there is nothing to compare")
    show_comparisons(found, terms.confidence, terms.ties)


def _names(paths: Sequence[Path]) -> list[str]:
    """What each is called: its name without the ending, or its whole path where two would have the same."""
    short = [path.resolve().name.removesuffix(".jsonl") for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _compare_runs(paths: Sequence[Path], terms: "Terms") -> None:
    from limbeck.commands.compared import read_run
    from limbeck.commands.verdict_tables import show_pooled
    from limbeck.stages.verdict.pooling import pool

    read = [read_run(path) for path in paths]
    recipes, runs = [recipe for recipe, _ in read], [run for _, run in read]
    if len({recipe.rounds.number for recipe in recipes}) > 1:
        raise InputError("these are different rounds: give the same round of each seed; what a run's rounds gained "
                         "together stands in its table of rounds")  # fmt: skip
    arms = [arm for arm in recipes[0].arms if all(arm in recipe.arms for recipe in recipes)]
    judges = [j for j in recipes[0].judged_by() if all(j in recipe.judged_by() for recipe in recipes)]
    if not arms or not judges:
        raise InputError(f"these runs have no {'judge' if arms else 'arm'} in common")
    if alike := _alike(recipes):
        first, second = (runs[at].name for at in alike)
        raise InputError(f"{first} and {second} are one recipe under one seed: the same problems, and no further "
                         "evidence; give runs of several seeds")  # fmt: skip
    if differing := _differing(recipes):
        say(f"These recipes differ in more than name and seed: {', '.join(differing)}.")
    if apart := sorted({arm for recipe in recipes for arm in recipe.arms} - set(arms)):
        say(f"Not in every run, and left out: {', '.join(apart)}.")
    if recipes[0].rounds.number > 1:
        say("In a further round, SFT stands for the last round's model: what is compared is what the round gained.")
    terms = replace(terms, family=len(arms))
    for judge in judges:
        show_pooled(pool(runs, arms, judge, terms), [run.name for run in runs], terms.confidence, terms.ties)
    show("\nThe intervals are of these trained models on other prompts. How far another training may fall from them is "
         "seen in the spread between seeds.")  # fmt: skip


def _alike(recipes: Sequence[Recipe]) -> tuple[int, int] | None:
    """Two recipes that differ in nothing but a name, where there are any."""
    dumped = [recipe.model_dump(mode="json", exclude={"name"}) for recipe in recipes]
    pairs = ((dumped.index(each), at) for at, each in enumerate(dumped))
    return next((pair for pair in pairs if pair[0] != pair[1]), None)


def _differing(recipes: Sequence[Recipe]) -> list[str]:
    """The sections in which recipes differ, name and seed aside."""
    dumped = [but_for_seed(recipe) for recipe in recipes]
    return [section for section in dumped[0] if any(each[section] != dumped[0][section] for each in dumped)]
