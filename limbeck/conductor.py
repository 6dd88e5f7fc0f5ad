"""Carrying the pipeline out: what is stale runs, in order, each unit through its manifest; stages are imported then."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from limbeck import rounds
from limbeck.console import clock, say
from limbeck.disk import refuse_if_full, warn_if_short
from limbeck.errors import BudgetError, LimbeckError, NothingFailsError, RecipeError, TooFewPairsError, most_in_words
from limbeck.judges import preflight
from limbeck.manifest import BEST_STEP, KEPT_STEP, StageResult, carry_out, unit_key, why_stale
from limbeck.pipeline import check, units
from limbeck.recipe import Recipe, Server
from limbeck.recipe.part import spending_limits
from limbeck.recipe.verdict import Judge as JudgeName
from limbeck.records.rounds import Stopped
from limbeck.round_folders import ROUNDS, round_folder
from limbeck.run_folder import claimed, rounding, see_weights, settled
from limbeck.store import digest_path
from limbeck.students import served
from limbeck.units.rounds import rounds_unit
from limbeck.units.unit import BASE, PROBLEMS, SFT, Unit
from limbeck.units.verdict import steps_of

_ELSEWHERE: frozenset[JudgeName] = frozenset({"nemotron", "pairwise"})
_ASKING = {"retain", "mine", "branch", "evaluate"}  # stages that sample from a model


@dataclass(frozen=True)
class Standing:
    """Where a unit stands: fresh, or to be run and why."""

    unit: Unit
    why: str | None
    state: Literal["fresh", "stale", "waiting"]


def standings(recipe: Recipe, base: Path, folder: Path) -> Iterator[Standing]:
    """Say of every unit whether it is fresh, stale and why, or waiting for an earlier one; of those of rounds too."""
    recipe = settled(recipe, folder, decides=False)
    stale: dict[Path, str] = {}
    for unit in units(recipe, base):
        if unit.step == ROUNDS:
            so_far = rounds.reached(recipe, folder)
            for number in range(2, so_far.begun + 1):
                yield from _standings_of_round(recipe, base, folder, number, stale)
            yield _standing(rounds_unit(recipe, max(so_far.done, 1), so_far.stopped or "all"), recipe, folder, stale)
        else:
            yield _standing(unit, recipe, folder, stale)


def _standings_of_round(
    recipe: Recipe, base: Path, folder: Path, number: int, stale: dict[Path, str]
) -> Iterator[Standing]:
    own = rounds.round_recipe(recipe, number)
    for unit in units(own, base):
        yield _standing(unit, own, round_folder(folder, number), stale, f"{ROUNDS}/{number}/")


def _standing(unit: Unit, recipe: Recipe, folder: Path, stale: dict[Path, str], prefix: str = "") -> Standing:
    """Where one unit stands; `stale`: the folders of those before it that will run, by what they are called."""
    inputs, named = _inputs(unit, folder), replace(unit, name=f"{prefix}{unit.name}")
    waits = [name for place, name in stale.items() if any(_lies_in(path, place) for path in inputs.values())]
    missing = [path for path in inputs.values() if not path.exists()]
    if waits or missing:
        stale[folder / unit.name] = named.name
        reason = f"waits for {', '.join(waits)}" if waits else f"{missing[0]} is missing"
        return Standing(named, reason, "waiting")
    why = why_due(unit, recipe, folder)
    if why:
        stale[folder / unit.name] = named.name
    return Standing(named, why, "stale" if why else "fresh")


def why_due(unit: Unit, recipe: Recipe, folder: Path) -> str | None:
    """Why a unit, whose inputs are all there, has to run in `folder`; None where it is fresh.

    Raises:
        InputError: where an input is missing.
    """
    digests = {name: digest_path(path) for name, path in _inputs(unit, folder).items()}
    key = unit_key(unit.name, unit.part, recipe.seed, digests)
    return why_stale(folder / unit.name, key, spending_limits(recipe))


def _inputs(unit: Unit, folder: Path) -> dict[str, Path]:
    """A unit's inputs by name: what lies beside a round's folder is named by its shortest path."""
    return {name: Path(os.path.normpath(folder / path)) for name, path in unit.inputs.items()}


def _lies_in(path: Path, folder: Path) -> bool:
    return folder == path or folder in path.parents


def run(recipe: Recipe, base: Path, folder: Path, until: str | None = None) -> None:
    """Carry the recipe out in `folder`: run what is stale, in order, up to and including the stage `until`.

    Raises:
        RunFolderError: where the folder belongs to another recipe or another process is at work in it.
        RecipeError: where the recipe cannot be carried out as a whole, or `until` names no stage of it.
        TeacherError: where a server that can be at work already is not.
    """
    check(recipe)
    within = steps_until(units(recipe, base), until)
    with claimed(folder, recipe):
        recipe = settled(recipe, folder)
        _see_weights(recipe, base, folder, within)
        served.look(_servers_needed(recipe, base, folder, within))
        for name in _judges_needed(recipe, base, folder, within):
            preflight(name, recipe, folder)
        listed = [unit for unit in units(recipe, base) if unit.step in within]
        warn_if_short(listed, recipe, base, folder)
        for unit in listed:
            run_unit(_further_rounds(recipe, base, folder) if unit.step == ROUNDS else unit, recipe, folder)


def _further_rounds(recipe: Recipe, base: Path, folder: Path) -> Unit:
    """Carry out the rounds after the first, as many as there are to be; returns the unit that adds them up."""
    done, stopped = 1, rounds.stopped_after(recipe, folder, 1)
    while stopped is None:
        stopped = _run_round(recipe, base, folder, done + 1)
        if stopped is None:
            done += 1
            stopped = rounds.stopped_after(recipe, folder, done)
    return rounds_unit(recipe, done, stopped)


def _run_round(recipe: Recipe, base: Path, run_folder: Path, number: int) -> Stopped | None:
    """Carry out a further round in a folder of its own; returns why that could not be, where it is no fault."""
    own, folder = rounds.round_recipe(recipe, number), round_folder(run_folder, number)
    with claimed(folder, own):
        listed = units(own, base)
        steps = [unit.step for unit in listed]
        _see_weights(own, base, folder, steps)
        for name in _judges_needed(own, base, folder, steps):
            preflight(name, own, folder)
        warn_if_short(listed, own, base, folder)
        for unit in listed:
            try:
                run_unit(unit, own, folder, f"{ROUNDS}/{number}/")
            except NothingFailsError as end:
                return _ended("nothing_fails", end)
            except TooFewPairsError as end:
                return _ended("too_few", end)
            except BudgetError as end:
                if unit.step != "teach":  # a judge's: replies would be left unjudged, and that is no end of rounds
                    raise
                return _ended("budget", end)
    return None


def _ended(why: Stopped, end: LimbeckError) -> Stopped:
    say(f"no further round: {end}")
    return why


def steps_until(listed: Sequence[Unit], until: str | None) -> list[str]:
    """The steps of these units, up to and including `until`; None: all of them.

    Raises:
        RecipeError: where `until` names none of them.
    """
    steps = list(dict.fromkeys(unit.step for unit in listed))
    if until is not None and until not in steps:
        raise RecipeError(f"--until {until!r}: no such stage in this run; it has {', '.join(steps)}")
    return steps[: steps.index(until) + 1] if until else steps


def _see_weights(recipe: Recipe, base: Path, folder: Path, steps: Sequence[str]) -> None:
    """Refuse weights of 8 bits that units yet to run could not have; one that is asked problems samples as `evaluate`.

    Raises:
        RecipeError: this machine cannot round them.
    """
    if not rounding(recipe):
        return
    listed = [standing.unit for standing in standings(recipe, base, folder) if standing.state != "fresh"]
    due = [unit for unit in listed if unit.step in steps]
    see_weights(recipe, {unit.stage for unit in due} | {"evaluate" for unit in due if PROBLEMS in unit.inputs})


def _servers_needed(recipe: Recipe, base: Path, folder: Path, steps: Sequence[str]) -> dict[str, Server]:
    """The servers that units yet to run will ask, of models that are there already. One whose model is yet to be
    trained is looked for when its turn comes: only then can it hold that model.
    """
    if not recipe.servers:
        return {}
    due = [standing.unit for standing in standings(recipe, base, folder) if standing.state != "fresh"]
    asking = [unit for unit in due if unit.stage in _ASKING and unit.step in steps]
    asked = {BASE if unit.stage == "retain" else unit.argument for unit in asking}
    untrained = {unit.argument or SFT for unit in due if unit.stage in ("sft", "dpo")}
    return {name: server for name, server in recipe.servers.items() if name in asked - untrained}


def _judges_needed(recipe: Recipe, base: Path, folder: Path, steps: Sequence[str]) -> list[JudgeName]:
    """The judges that units yet to run will ask: of those elsewhere, one question shows that they do judge."""
    asked = {name: judges for name, judges in _judges_by_step(recipe).items() if judges & _ELSEWHERE and name in steps}
    if not asked:
        return []
    due = {standing.unit.step for standing in standings(recipe, base, folder) if standing.state != "fresh"}
    return sorted({judge for step in due for judge in asked.get(step, frozenset()) & _ELSEWHERE})


def _judges_by_step(recipe: Recipe) -> dict[str, frozenset[JudgeName]]:
    verdict = frozenset(recipe.judged_by())
    mining = recipe.mining().judge if recipe.mines() else None
    mined: frozenset[JudgeName] = frozenset() if mining is None else frozenset({mining})
    steps = steps_of(recipe)
    return {"mine": mined, steps.evaluate: verdict - {"pairwise"}, steps.compare: verdict & {"pairwise"}}


def run_unit(unit: Unit, recipe: Recipe, folder: Path, prefix: str = "") -> None:
    """Run one unit in `folder` unless it is fresh; `prefix`: what its name has before it on the console."""
    inputs, called = _inputs(unit, folder), f"{prefix}{unit.name}"
    why = why_due(unit, recipe, folder)
    if why is None:
        say(f"{called}: fresh", style="dim")
        return
    say(f"{called}: {why}")
    given = {"run": folder} if unit.stage == "report" else inputs
    manifest = carry_out(
        unit=unit.name,
        folder=folder / unit.name,
        inputs=inputs,
        recipe_part=unit.part,
        seed=recipe.seed,
        keep=unit.keep,
        work=lambda out: _work(unit, recipe, folder, given, out),
        limits=spending_limits(recipe),
    )
    say(f"{called}: done in {clock(manifest.seconds)}{_summary(manifest.result)}")


def _work(unit: Unit, recipe: Recipe, folder: Path, given: Mapping[str, Path], out: Path) -> StageResult:
    refuse_if_full(unit, recipe, folder)  # now that a stale result has made room
    return call_stage(unit.stage, recipe, given, out, unit.argument)


def call_stage(stage: str, recipe: Recipe, inputs: Mapping[str, Path], out: Path, argument: str | None) -> StageResult:
    """Import a stage and run it."""
    work: Callable[..., StageResult] = importlib.import_module(f"limbeck.stages.{stage}").run
    result = work(recipe, inputs, out) if argument is None else work(recipe, inputs, out, argument)
    if "torch" in sys.modules:
        importlib.import_module("limbeck.lm.machine").release()
    return result


def _summary(result: StageResult) -> str:
    made = {name: number for name, number in result.counts_out.items() if number or name == BEST_STEP}
    if result.facts.get(KEPT_STEP, made.get(BEST_STEP)) != made.get(BEST_STEP):
        made.pop(BEST_STEP, None)  # with keep = "last" it would be taken for the step whose weights are kept
    made = made or result.counts_out
    counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in made.items())
    dropped = sum(result.drops.values())
    return f": {counts}{f'; {dropped} dropped ({most_in_words(result.drops)})' if dropped else ''}" if counts else ""
