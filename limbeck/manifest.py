"""Manifests: what a unit of work read, did and left, and the key that says whether it is still fresh.

A manifest is written last and atomically: a folder without one is unfinished. Freshness is decided by digests of
inputs and of the recipe part that matters, never by dates.
"""

import datetime
import importlib.metadata
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from limbeck.errors import RunFolderError
from limbeck.records import Record
from limbeck.store import digest_json, digest_path, first_problem, is_unfinished, write_json, write_text

MANIFEST = "manifest.json"
BEST_STEP = "best_step"  # a count of a training unit: after how many steps its validation was best; 0: the start
KEPT_STEP = "kept_step"  # the fact of a training unit: how many steps its model has seen
IN_PROGRESS = ".in_progress"
RESUMED_FROM = ".*.pt"  # checkpoints, of use to an interrupted run alone
_NO_LIMITS: Mapping[str, Any] = {}
_LIBRARIES = ("limbeck", "torch", "transformers", "reasoning-gym")


class StageResult(Record):
    """What a stage reports of its work: counts, drops by reason, tokens, money (None: unknown), named facts.

    `ended_by`: where it ended short of its goal, the settings that it would go on with were they others, by field.
    They are no part of its key, for where it reached its goal they changed nothing.
    """

    counts_in: dict[str, int] = {}
    counts_out: dict[str, int] = {}
    drops: dict[str, int] = {}
    tokens: dict[str, int] = {}
    money_usd: float | None = None
    facts: dict[str, Any] = {}
    ended_by: dict[str, Any] = {}


class Manifest(Record):
    """The record of a finished unit of work. `seconds` are those of the attempt that finished it."""

    unit: str
    key: str
    seed: int
    inputs: dict[str, str]
    recipe_part: dict[str, Any]
    outputs: dict[str, str]
    result: StageResult
    seconds: float = Field(ge=0)
    finished_at: str
    versions: dict[str, str]


def unit_key(unit: str, recipe_part: Mapping[str, Any], seed: int, inputs: Mapping[str, str]) -> str:
    """The identity of a unit of work: same key, same result."""
    return digest_json([unit, importlib.metadata.version("limbeck"), dict(recipe_part), seed, dict(inputs)])


def read_manifest(folder: Path) -> Manifest | None:
    """Read a folder's manifest; None where the folder is unfinished or absent.

    Raises:
        RunFolderError: where a manifest is there but cannot be understood.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        problem = first_problem(error) if isinstance(error, ValidationError) else "not valid UTF-8 text"
        raise RunFolderError(f"{path} is damaged ({problem}); delete the folder {folder} and run again") from error


def why_stale(folder: Path, key: str, limits: Mapping[str, Any] = _NO_LIMITS) -> str | None:
    """Say why the unit in `folder` has to run, or None where it is fresh.

    Fresh: the same key, its outputs are as it left them, and what ended it early, if anything, stands so in `limits`,
    as far as it stands there: of what they leave out nothing is known.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return "unfinished" if (folder / IN_PROGRESS).exists() else "not run yet"
    if manifest.key != key:
        return "the recipe or an input changed"
    for name, value in manifest.result.ended_by.items():
        if limits.get(name, value) != value:
            return f"it ended early, and {name} changed"
    for name, digest in manifest.outputs.items():
        path = folder / name
        if not path.exists():
            return f"{name} is missing"
        if digest_path(path) != digest:
            return f"{name} was changed by hand"
    return None


def carry_out(
    *,
    unit: str,
    folder: Path,
    inputs: Mapping[str, Path],
    recipe_part: Mapping[str, Any],
    seed: int,
    keep: tuple[str, ...],
    work: Callable[[Path], StageResult],
    limits: Mapping[str, Any] = _NO_LIMITS,
) -> Manifest:
    """Run `work(folder)` as one unit and leave its manifest, unless a fresh one is there already.

    A folder left by an interrupted run of the same key is handed to `work` as it is, so that it can resume; any other
    content is removed first, except the names in `keep` (stores that were paid for).

    Raises:
        RunFolderError: where an input would be removed so, or the folder holds what no run wrote.
    """
    digests = {name: digest_path(path) for name, path in inputs.items()}
    key = unit_key(unit, recipe_part, seed, digests)
    if why_stale(folder, key, limits) is None:
        manifest = read_manifest(folder)
        if manifest is not None:
            return manifest
    _refuse_to_remove(inputs, folder, keep)
    _prepare(folder, key, keep)
    started = time.monotonic()
    result = work(folder)
    manifest = Manifest(
        unit=unit,
        key=key,
        seed=seed,
        inputs=digests,
        recipe_part=dict(recipe_part),
        outputs={path.name: digest_path(path) for path in sorted(folder.iterdir()) if _is_output(path, keep)},
        result=result,
        seconds=round(time.monotonic() - started, 2),
        finished_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=versions(),
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    (folder / IN_PROGRESS).unlink()
    for left in folder.glob(RESUMED_FROM):  # not before: an interruption until here goes on from them
        left.unlink()
    return manifest


def _refuse_to_remove(inputs: Mapping[str, Path], folder: Path, keep: tuple[str, ...]) -> None:
    here = folder.resolve()
    for name, path in inputs.items():
        place = path.resolve()
        if place == here or (place.is_relative_to(here) and place.relative_to(here).parts[0] not in keep):
            raise RunFolderError(f"{name}: {path} lies in {folder}, which would be emptied first; give --out another "
                                 "folder")  # fmt: skip


def _is_output(path: Path, keep: tuple[str, ...]) -> bool:
    return not path.name.startswith(".") and path.name != MANIFEST and path.name not in keep


def _prepare(folder: Path, key: str, keep: tuple[str, ...]) -> None:
    marker = folder / IN_PROGRESS
    # With a manifest the unit was finished once: what lies there now is stale, whatever the marker says.
    if marker.is_file() and marker.read_text(encoding="utf-8") == key and not (folder / MANIFEST).exists():
        _sweep(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    there = [path for path in folder.iterdir() if path.name not in keep and path != marker]
    if there and not marker.is_file() and not (folder / MANIFEST).is_file():
        raise RunFolderError(f"{folder} holds {there[0].name}, which no run wrote there; give --out another folder")
    write_text(marker, key)  # first, so that what is left of an interrupted clearing is known to be a run's
    for path in sorted(there, key=lambda path: path.name == MANIFEST):  # last, so that it is not taken for unfinished
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half-written: temporary files and folders beside their targets."""
    for path in folder.iterdir():
        if is_unfinished(path):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def versions() -> dict[str, str]:
    """Versions of Python, limbeck and the libraries that decide results."""
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        found[library] = importlib.metadata.version(library)
    return found
