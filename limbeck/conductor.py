"""Carrying the pipeline out: what is stale runs, in order, each unit through its manifest; stages are imported then."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from limbeck.console import clock, say
from limbeck.errors import RecipeError
from limbeck.judges import preflight
from limbeck.manifest import StageResult, carry_out, unit_key, why_stale
from limbeck.pipeline import check, units
from limbeck.recipe import Recipe, Server
from limbeck.recipe_verdict import Judge as JudgeName
from limbeck.run_folder import MACHINE_FILE, claimed, settled
from limbeck.store import digest_path
from limbeck.students import served
from limbeck.unit import BASE, SFT, Unit
from limbeck.units_verdict import steps_of

_ELSEWHERE: frozenset[JudgeName] = frozenset({"nemotron", "pairwise"})
_ASKING = {"retain", "mine", "branch", "evaluate"}  # stages that sample from a model


@dataclass(frozen=True)
class Standing:
    """Where a unit stands: fresh, or to be run and why."""

    unit: Unit
    why: str | None
    state: Literal["fresh", "stale", "waiting"]


def standings(recipe: Recipe, base: Path, folder: Path) -> Iterator[Standing]:
    """Say of every unit whether it is fresh, stale and why, or waiting for an earlier one."""
    stale: list[str] = []
    if (folder / MACHINE_FILE).is_file():
        recipe = settled(recipe, folder)
    for unit in units(recipe, base):
        inputs = {name: folder / path for name, path in unit.inputs.items()}
        waits = [name for name in stale if any(_lies_in(path, folder / name) for path in inputs.values())]
        missing = [path for path in inputs.values() if not path.exists()]
        if waits or missing:
            stale.append(unit.name)
            reason = f"waits for {', '.join(waits)}" if waits else f"{missing[0]} is missing"
            yield Standing(unit, reason, "waiting")
            continue
        digests = {name: digest_path(path) for name, path in inputs.items()}
        why = why_stale(folder / unit.name, unit_key(unit.name, unit.part, recipe.seed, digests))
        if why:
            stale.append(unit.name)
        yield Standing(unit, why, "stale" if why else "fresh")


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
        served.look(_servers_needed(recipe, base, folder, within))
        for name in _judges_needed(recipe, base, folder, within):
            preflight(name, recipe, folder)
        for unit in units(recipe, base):
            if unit.step not in within:
                return
            run_unit(unit, recipe, folder)


def steps_until(listed: Sequence[Unit], until: str | None) -> list[str]:
    """The steps of these units, up to and including `until`; None: all of them.

    Raises:
        RecipeError: where `until` names none of them.
    """
    steps = list(dict.fromkeys(unit.step for unit in listed))
    if until is not None and until not in steps:
        raise RecipeError(f"--until {until!r}: no such stage in this run; it has {', '.join(steps)}")
    return steps[: steps.index(until) + 1] if until else steps


def _servers_needed(recipe: Recipe, base: Path, folder: Path, steps: Sequence[str]) -> dict[str, Server]:
    """The servers that units yet to run will ask, of models that are there already. One whose model is yet to be
    trained is looked for when its turn comes: only then can it hold that model.
    """
    if not recipe.servers:
        return {}
    due = [standing.unit for standing in standings(recipe, base, folder) if standing.state != "fresh"]
    asked = {BASE if unit.stage == "retain" else unit.argument for unit in due if unit.stage in _ASKING & set(steps)}
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


def run_unit(unit: Unit, recipe: Recipe, folder: Path) -> None:
    """Run one unit in `folder` unless it is fresh."""
    inputs = {name: folder / path for name, path in unit.inputs.items()}
    place = folder / unit.name
    digests = {name: digest_path(path) for name, path in inputs.items()}
    why = why_stale(place, unit_key(unit.name, unit.part, recipe.seed, digests))
    if why is None:
        say(f"{unit.name}: fresh", style="dim")
        return
    say(f"{unit.name}: {why}")
    given = {"run": folder} if unit.stage == "report" else inputs
    manifest = carry_out(
        unit=unit.name,
        folder=place,
        inputs=inputs,
        recipe_part=unit.part,
        seed=recipe.seed,
        keep=unit.keep,
        work=lambda out: call_stage(unit.stage, recipe, given, out, unit.argument),
    )
    say(f"{unit.name}: done in {clock(manifest.seconds)}{_summary(manifest.result)}")


def call_stage(stage: str, recipe: Recipe, inputs: Mapping[str, Path], out: Path, argument: str | None) -> StageResult:
    """Import a stage and run it."""
    work: Callable[..., StageResult] = importlib.import_module(f"limbeck.stages.{stage}").run
    result = work(recipe, inputs, out) if argument is None else work(recipe, inputs, out, argument)
    if "torch" in sys.modules:
        importlib.import_module("limbeck.lm.machine").release()
    return result


def _summary(result: StageResult) -> str:
    made = {name: number for name, number in result.counts_out.items() if number} or result.counts_out
    counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in made.items())
    dropped = sum(result.drops.values())
    return f": {counts}{f'; {dropped} dropped' if dropped else ''}" if counts else ""
