"""Room on the disk: counted from the weights, said before a run begins, and refused before a training is in vain."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from street import limbeck, student, write_tiny_recipe
from transformers import AutoModelForCausalLM

from limbeck import pipeline
from limbeck.disk import room_for
from limbeck.manifest import IN_PROGRESS
from limbeck.recipe.file import load_recipe

_Usage = namedtuple("_Usage", "total used free")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_tiny_recipe(tmp_path / "recipe.toml", student(tmp_path / "base"))


def weights_of(base: Path) -> int:
    return sum(
        tensor.numel() for tensor in AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).parameters()
    )


def leave_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(10**12, 10**12 - free, free))


@pytest.mark.parametrize(("dtype", "saved"), [("fp32", 4), ("bf16", 2)])
def test_every_model_to_train_counts_by_its_weights_and_the_dtype_it_is_saved_in(
    recipe: Path, dtype: str, saved: int
) -> None:
    base, folder = recipe.parent / "base", recipe.parent / "not" / "there"
    known = load_recipe(recipe, [f"model.dtype={dtype}"])
    room = room_for(pipeline.units(known, base), known, base, folder)
    assert room is not None
    weights = weights_of(base)
    assert (room.num_models, room.models_bytes, room.beside_bytes) == (3, 3 * saved * weights, 32 * weights)
    assert room.free_bytes > 0


def test_a_model_that_is_there_needs_no_room_and_a_run_that_trains_nothing_none(recipe: Path) -> None:
    base, known, folder = recipe.parent / "base", load_recipe(recipe), recipe.parent / "run"
    shutil.copytree(base, folder / "sft" / "model")
    units = pipeline.units(known, base)
    room = room_for(units, known, base, folder)
    assert room is not None
    assert room.num_models == 2
    assert room_for([unit for unit in units if unit.stage == "mine"], known, base, folder) is None
    nothing = recipe.parent / "nothing"
    assert room_for(pipeline.units(known, nothing), known, nothing, nothing) is None  # no weights there to be counted


def test_a_run_whose_models_may_not_fit_says_so_at_once_and_goes_on(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(recipe.parent / "base")
    leave_free(monkeypatch, 5 * weights)  # one model, and not what is kept beside it while it is trained
    out = recipe.parent / "run"
    plan = limbeck("run", recipe, "--out", out, "--plan", "--until", "sft").done().out
    assert f"Disk: 1 model to train: {4 * weights / 1e6:.1f} MB, and up to {32 * weights / 1e6:.1f} MB " in plan
    assert f"of {5 * weights / 1e6:.1f} MB that are free; this may not fit" in plan
    said = limbeck("run", recipe, "--out", out, "--until", "sft").done().err
    assert said.index("disk: this may not fit: 1 model to train") < said.index("corpus: done")
    again = limbeck("run", recipe, "--out", out, "--until", "sft").done()
    assert again.ran == []
    assert "disk:" not in again.err


def test_a_training_whose_model_cannot_be_written_is_refused_before_it_begins(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, out = weights_of(recipe.parent / "base"), recipe.parent / "run"
    with monkeypatch.context() as little:
        leave_free(little, 4 * weights - 1)
        complaint = limbeck("run", recipe, "--out", out, "--until", "sft").complaint
    assert complaint.startswith(f"the disk that holds {out / 'sft'} has ")
    assert complaint.endswith("free some space and run the same command again: what was finished is kept")
    assert [path.name for path in (out / "sft").iterdir()] == [IN_PROGRESS]
    assert limbeck("run", recipe, "--out", out, "--until", "sft").done().ran == ["sft"]


def test_only_the_weights_that_are_loaded_count_and_adapters_need_no_room_beside_the_model(recipe: Path) -> None:
    base, folder = recipe.parent / "base", recipe.parent / "run"
    shutil.copy(base / "model.safetensors", base / "consolidated.safetensors")  # the same once more, its maker's way
    shutil.copy(base / "model.safetensors", base / "adapter_model.safetensors")
    weights = weights_of(base)
    for overrides in (["sft.lora.rank=4"], ["dpo.lora.rank=4"], []):  # one that trains all weights is enough
        known = load_recipe(recipe, overrides)
        room = room_for(pipeline.units(known, base), known, base, folder)
        assert room is not None
        assert (room.models_bytes, room.beside_bytes) == (12 * weights, 32 * weights)
    known = load_recipe(recipe, ["sft.lora.rank=4", "dpo.lora.rank=4"])
    room = room_for(pipeline.units(known, base), known, base, folder)
    assert room is not None and room.beside_bytes == 0
    for number in (1, 2):
        (base / "model.safetensors").rename(base / f"model-0000{number}-of-00002.safetensors")
        shutil.copy(base / f"model-0000{number}-of-00002.safetensors", base / "model.safetensors")
    (base / "model.safetensors").unlink()
    room = room_for(pipeline.units(known, base), known, base, folder)
    assert room is not None and room.models_bytes == 24 * weights
