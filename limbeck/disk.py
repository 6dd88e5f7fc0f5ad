"""Room on the disk for the models that a run trains: said before it begins, looked at again before each training.

A model is written when its training ends, hours after it could have been known that it will not fit.
"""

import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from limbeck.console import say
from limbeck.errors import DiskFullError
from limbeck.recipe import Recipe
from limbeck.units.unit import Unit

_TRAIN = {"sft", "dpo", "reward"}
_SAVED = {"fp32": 4, "bf16": 2, "auto": 4}  # bytes of a weight in a saved model; auto, where undecided: the most
# And while all of them are trained: the best so far, and a checkpoint with both moments; each while its successor is
# written beside it. Of adapters it is next to nothing.
_KEPT = 2 * (4 + 12)


class Room(NamedTuple):
    """What a run still writes: its models, and at most so much beside them while one is trained; and what is free."""

    num_models: int
    models_bytes: int
    beside_bytes: int
    free_bytes: int

    @property
    def is_short(self) -> bool:
        """Whether it may not be enough."""
        return self.models_bytes + self.beside_bytes > self.free_bytes

    def __str__(self) -> str:
        """Say it: what is needed, and what there is."""
        models = "1 model" if self.num_models == 1 else f"{self.num_models} models"
        return (
            f"{models} to train: {_size(self.models_bytes)}, and up to {_size(self.beside_bytes)} while one is "
            f"trained, of {_size(self.free_bytes)} that are free"
        )


def room_for(units: Iterable[Unit], recipe: Recipe, base: Path, folder: Path) -> Room | None:
    """What the models of these units take that do not lie in `folder` yet. None: nothing is to be trained, or there
    are no weights of `base` here to be counted.
    """
    due = [unit for unit in units if unit.stage in _TRAIN and not (folder / unit.name / "model").is_dir()]
    counted = [(unit, number) for unit in due if (number := _weights(_start(unit, folder, base)))]
    if not counted:
        return None
    models = _SAVED[recipe.model.dtype] * sum(number for _, number in counted)
    beside = _KEPT * max(0 if _trains_adapters(unit) else number for unit, number in counted)
    return Room(len(counted), models, beside, _free(folder))


def warn_if_short(units: Iterable[Unit], recipe: Recipe, base: Path, folder: Path) -> None:
    """Say before a run begins that its models may not find room; it goes on, for room may be made meanwhile."""
    room = room_for(units, recipe, base, folder)
    if room is not None and room.is_short:
        say(f"disk: this may not fit: {room} where {folder} lies")


def refuse_if_full(unit: Unit, recipe: Recipe, folder: Path) -> None:
    """Refuse to train a model that could not be written in the end.

    Raises:
        DiskFullError: where not even the trained model, in nothing but its own bytes, finds room.
    """
    if unit.stage not in _TRAIN:
        return
    size, free = _SAVED[recipe.model.dtype] * _weights(_start(unit, folder, folder)), _free(folder)
    if size > free:
        raise DiskFullError(
            f"the disk that holds {folder / unit.name} has {_size(free)} free, and the model to be trained takes "
            f"{_size(size)}; free some space and run the same command again: what was finished is kept"
        )


def _start(unit: Unit, folder: Path, base: Path) -> Path:
    """The model that a training begins with, or, while that is not there, the one it will be trained from."""
    start = folder / unit.inputs.get("policy", unit.inputs.get("base", base))
    return start if start.is_dir() else base


def _trains_adapters(unit: Unit) -> bool:
    return bool(unit.part.get(unit.stage, {}).get("lora"))


def _weights(model: Path) -> int:
    """How many weights lie in a model's folder; 0 where none can be read, which is for whoever loads it to say.

    Some folders hold them a second time, in a format of their maker's: those that transformers reads count.
    """
    whole = model / "model.safetensors"
    return sum(map(_weights_in, [whole] if whole.is_file() else model.glob("model-*.safetensors")))


def _weights_in(path: Path) -> int:
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            return sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    except (OSError, SafetensorError):
        return 0


def _free(folder: Path) -> int:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
