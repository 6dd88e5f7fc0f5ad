"""A run folder: whose it is, that one process is at work in it, and on what kind of machine it is carried out."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from limbeck.errors import RunFolderError
from limbeck.manifest import MANIFEST
from limbeck.recipe import Model, Recipe
from limbeck.recipe.file import load_recipe, write_recipe
from limbeck.store import is_unfinished, read_json, write_json

RECIPE_FILE = "recipe.toml"
MACHINE_FILE = "machine.json"


def recipe_of(folder: Path) -> Recipe:
    """The recipe that a run folder belongs to.

    Raises:
        RunFolderError: where the folder holds no run.
    """
    path = folder / RECIPE_FILE
    if not path.is_file():
        raise RunFolderError(f"{folder} is no run folder: it holds no {RECIPE_FILE}")
    return load_recipe(path)


def settled(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with device and dtype decided, once for a run folder: a later probe must not change a run half-way.

    The decision lies in `machine.json`; torch is imported only to make it.
    """
    if "auto" not in {recipe.model.device, recipe.model.dtype}:
        return recipe
    path = folder / MACHINE_FILE
    if not path.is_file():
        from limbeck.lm.machine import place

        device, dtype = place(recipe.model)
        write_json(path, {"device": device.type, "dtype": "bf16" if "bfloat16" in str(dtype) else "fp32"})
    asked = recipe.model.model_dump()
    chosen = {name: value for name, value in read_json(path).items() if asked.get(name) == "auto"}
    return recipe.model_copy(update={"model": Model.model_validate(asked | chosen)})


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
