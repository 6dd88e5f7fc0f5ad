"""A run folder: whose it is, that one process is at work in it, and on what kind of machine it is carried out."""

import fcntl
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from limbeck.errors import RecipeError, RunFolderError
from limbeck.manifest import MANIFEST
from limbeck.recipe import Model, Recipe
from limbeck.recipe.fields import Sampled, Section
from limbeck.recipe.file import load_recipe, write_recipe
from limbeck.store import is_unfinished, read_json, write_json

RECIPE_FILE = "recipe.toml"
MACHINE_FILE = "machine.json"
_WEIGHTS = "weights"


def recipe_of(folder: Path) -> Recipe:
    """The recipe that a run folder belongs to.

    Raises:
        RunFolderError: where the folder holds no run.
    """
    path = folder / RECIPE_FILE
    if not path.is_file():
        raise RunFolderError(f"{folder} is no run folder: it holds no {RECIPE_FILE}")
    return load_recipe(path)


def settled(recipe: Recipe, folder: Path, *, decides: bool = True) -> Recipe:
    """The recipe with device, dtype and weights to sample with decided, once for a run folder.

    A later probe must not change a run half-way, nor another processor that it goes on with. The decision lies in
    `machine.json`; torch is imported only to make it. Sections keep `weights = "auto"` where the machine can round
    them: the model must be one that can. `decides` False: what is not decided yet stays open, and nothing is written.
    """
    asked = recipe.model.model_dump()
    sampling = {name: section for name, section in _sampling(recipe).items() if section.weights == "auto"}
    wanted = {name for name in ("device", "dtype") if asked[name] == "auto"} | ({_WEIGHTS} if sampling else set())
    path = folder / MACHINE_FILE
    known = read_json(path) if wanted and path.is_file() else {}
    if decides and wanted - known.keys():
        known = _decided(recipe, known, wanted)
        write_json(path, known)
    chosen = {name: known[name] for name in wanted - {_WEIGHTS} if name in known}
    update: dict[str, Section] = {"model": Model.model_validate(asked | chosen)}
    if recipe.servers or known.get(_WEIGHTS) == "own":  # models would be asked in different ways
        update |= {name: section.model_copy(update={_WEIGHTS: "own"}) for name, section in sampling.items()}
    return recipe.model_copy(update=update)


def _decided(recipe: Recipe, known: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
    """What is known of a run folder's machine, and what is decided now."""
    found = dict(known)
    if not {"device", "dtype"} <= found.keys():
        from limbeck.lm.machine import place

        device, dtype = place(recipe.model)
        found = {"device": device.type, "dtype": "bf16" if "bfloat16" in str(dtype) else "fp32"} | found
    if _WEIGHTS in wanted and _WEIGHTS not in found:
        from limbeck.lm.runners import can_round_weights

        found[_WEIGHTS] = "int8" if can_round_weights(found["device"]) else "own"
    return found


def rounding(recipe: Recipe) -> list[str]:
    """The stages that sample with weights of 8 bits, or may; `recipe` is settled."""
    return [name for name, section in _sampling(recipe).items() if section.weights != "own"]


def see_weights(recipe: Recipe, stages: Collection[str]) -> None:
    """Refuse at the start what a machine's sampling would refuse after hours of training; `recipe` is settled.

    Raises:
        RecipeError: one of `stages` is to sample with weights of 8 bits, and this machine cannot.
    """
    rounded = [name for name in rounding(recipe) if name in stages]
    if not rounded:
        return
    from limbeck.lm.machine import choose_device
    from limbeck.lm.runners import can_round_weights

    if can_round_weights(choose_device(recipe.model.device).type):
        return
    name = rounded[0]
    began = "" if _sampling(recipe)[name].weights == "int8" else f", as this run began ({MACHINE_FILE})"
    raise RecipeError(
        f"{name}.weights: this machine cannot sample with weights of 8 bits{began}; that takes a CPU with "
        f'AVX-512 VNNI, and a C++ compiler. {name}.weights = "own" works everywhere'
    )


def _sampling(recipe: Recipe) -> dict[str, Sampled]:
    """The sections that say how a student is sampled, by the stage that reads them."""
    return {"mine": recipe.mine, "branch": recipe.branch, "evaluate": recipe.evaluate}


@contextmanager
def claimed(folder: Path, recipe: Recipe) -> Iterator[None]:
    """Hold a run folder for one process, and see that it is this recipe's.

    Raises:
        RunFolderError: where it is another recipe's, no run folder at all, or in use.
    """
    known = folder / RECIPE_FILE
    if known.is_file():
        if not (folder / ".lock").exists() and not any(folder.rglob(MANIFEST)):
            raise RunFolderError(f"{folder} holds a {RECIPE_FILE} and no run: it may be a recipe of yours, which a run "
                                 "would write over; give --out another folder")  # fmt: skip
        owner = load_recipe(known).name
        if owner != recipe.name:
            raise RunFolderError(
                f"{folder} holds the run of the recipe {owner!r}, not {recipe.name!r}; give --out another folder"
            )
    elif folder.is_dir() and not all(_is_own(path) for path in folder.iterdir()):
        raise RunFolderError(f"{folder} is not empty and holds no run of limbeck; give --out another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be made a run folder: {error.strerror}") from error
    with _lock_of(folder) as lock:
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        if not known.is_file() or load_recipe(known) != recipe:
            write_recipe(known, recipe)
        yield


def _lock_of(folder: Path) -> TextIO:
    """The lock of a run folder, taken."""
    lock = None
    try:
        lock = (folder / ".lock").open("a+")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if lock is not None:
            lock.close()
        if isinstance(error, BlockingIOError):
            raise RunFolderError(
                f"another process is at work in {folder}; wait for it, or give --out another"
            ) from None
        raise RunFolderError(f"{folder} cannot be worked in: {error.strerror}; give --out another folder") from error
    return lock


def _is_own(path: Path) -> bool:
    # A run that was killed before its recipe stood in the folder leaves the lock, and the recipe's unfinished file.
    return path.name == ".lock" or is_unfinished(path)
