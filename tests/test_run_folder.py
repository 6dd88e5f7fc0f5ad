"""What a run decides once about its machine, and says before it begins."""

import json
from pathlib import Path

import pytest
import torch

from limbeck import conductor
from limbeck.errors import RecipeError
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.recipe.file import load_recipe, packaged_recipe
from limbeck.run_folder import MACHINE_FILE, see_weights, settled

AUTOMATIC = {"mine": {"weights": "auto"}, "evaluate": {"weights": "auto"}}
SERVER = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}


def recipe(**sections: object) -> Recipe:
    fixed = {"name": "r", "model": {"device": "cpu", "dtype": "fp32"}, "arms": {"a": {"reference": 4}}}
    return Recipe.model_validate(fixed | sections)


def weights(of: Recipe) -> tuple[str, str, str]:
    return of.mine.weights, of.branch.weights, of.evaluate.weights


def multiplies_bytes(monkeypatch: pytest.MonkeyPatch, it_does: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: it_does)


@pytest.mark.usefixtures("compiled")
def test_automatic_weights_stay_where_the_processor_multiplies_bytes_and_are_the_models_own_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiplies_bytes(monkeypatch, False)
    assert weights(settled(recipe(**AUTOMATIC), tmp_path)) == ("own", "own", "own")
    assert json.loads((tmp_path / MACHINE_FILE).read_text())["weights"] == "own"

    multiplies_bytes(monkeypatch, True)
    assert weights(settled(recipe(**AUTOMATIC), tmp_path)) == ("own", "own", "own"), "decided once for a run"
    other = tmp_path / "other"
    other.mkdir()
    assert weights(settled(recipe(**AUTOMATIC), other)) == ("auto", "own", "auto")
    assert weights(settled(recipe(**AUTOMATIC, servers={"sft": SERVER}), other)) == ("own", "own", "own")


@pytest.mark.usefixtures("compiled")
def test_what_a_run_of_an_earlier_version_decided_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    multiplies_bytes(monkeypatch, True)
    (tmp_path / MACHINE_FILE).write_text('{"device": "cpu", "dtype": "bf16"}')
    found = settled(recipe(model={"device": "auto", "dtype": "auto"}, **AUTOMATIC), tmp_path)
    assert (found.model.device, found.model.dtype) == ("cpu", "bf16")
    assert json.loads((tmp_path / MACHINE_FILE).read_text()) == {"device": "cpu", "dtype": "bf16", "weights": "int8"}


@pytest.mark.usefixtures("compiled")
def test_weights_that_cannot_be_rounded_here_are_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recipe(evaluate={"weights": "int8"})
    multiplies_bytes(monkeypatch, True)
    see_weights(asked, {"evaluate"})
    began = settled(recipe(**AUTOMATIC), tmp_path)

    multiplies_bytes(monkeypatch, False)
    see_weights(asked, {"sft", "mine"})  # neither samples with them
    with pytest.raises(RecipeError, match=r"evaluate\.weights: this machine cannot .* 8 bits; that takes"):
        see_weights(asked, {"evaluate"})
    with pytest.raises(RecipeError, match=r"mine\.weights: .* 8 bits, as this run began \(machine\.json\)"):
        see_weights(settled(began, tmp_path), {"mine", "evaluate"})


def test_where_nobody_asks_for_rounded_weights_nothing_is_compiled_and_a_decision_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled_for_nothing() -> None:
        raise AssertionError("kernels were asked for")

    monkeypatch.setattr("limbeck.lm.runners.kernels", compiled_for_nothing)
    automatic = recipe(model={"device": "cpu", "dtype": "auto"})
    (tmp_path / MACHINE_FILE).write_text('{"device": "cuda", "dtype": "bf16"}')  # begun elsewhere
    assert settled(automatic, tmp_path).model.dtype == "bf16"
    other = tmp_path / "other"
    other.mkdir()
    settled(automatic, other)
    assert json.loads((other / MACHINE_FILE).read_text()).keys() == {"device", "dtype"}


@pytest.mark.parametrize("known", [None, '{"device": "cpu", "dtype": "bf16"}'])
def test_looking_at_a_run_decides_and_writes_nothing(known: str | None, tmp_path: Path) -> None:
    path = tmp_path / MACHINE_FILE
    if known is not None:
        path.write_text(known)
    seen = settled(recipe(model={"device": "auto", "dtype": "auto"}, **AUTOMATIC), tmp_path, decides=False)
    assert (seen.model.dtype, weights(seen)) == ("bf16" if known else "auto", ("auto", "own", "auto"))
    assert (path.read_text() if path.exists() else None) == known


@pytest.mark.parametrize(
    ("overrides", "until", "blamed"),
    [
        (["evaluate.weights=int8"], None, "evaluate.weights"),
        (["mine.weights=int8"], "mine", "mine.weights"),
        (["evaluate.weights=int8", "sft.validate_problems=4"], "sft", "evaluate.weights"),
    ],
)
def test_a_run_that_this_machine_cannot_sample_is_refused_before_it_begins(
    overrides: list[str], until: str | None, blamed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiplies_bytes(monkeypatch, False)
    fixed = ("model.device=cpu", "model.dtype=fp32")
    asked = load_recipe(packaged_recipe("smoke"), (*fixed, *overrides))
    with pytest.raises(RecipeError, match=blamed):
        conductor.run(asked, tmp_path / "base", tmp_path / "run", until)
    assert not (tmp_path / "run" / "corpus").exists()


def test_a_round_that_this_machine_cannot_sample_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiplies_bytes(monkeypatch, False)
    fixed = ("model.device=cpu", "model.dtype=fp32", "evaluate.weights=int8", "rounds.count=2", "rounds.arm=random")
    asked = load_recipe(packaged_recipe("smoke"), fixed)
    with pytest.raises(RecipeError, match=r"evaluate\.weights"):
        conductor._run_round(asked, tmp_path / "base", tmp_path / "run", 2)


def test_a_finished_training_names_its_best_step_also_where_that_is_its_start() -> None:
    counts = {"trained_on": 7, "steps": 16, "best_step": 0, "cut": 0}
    assert conductor._summary(StageResult(counts_out=counts)) == ": 7 trained on, 16 steps, 0 best step"
    assert conductor._summary(StageResult(counts_out={"steps": 16})) == ": 16 steps"


@pytest.mark.parametrize(("kept", "said"), [(12, ", 12 best step"), (16, "")])
def test_a_best_step_is_named_where_its_weights_are_those_kept(kept: int, said: str) -> None:
    found = StageResult(counts_out={"steps": 16, "best_step": 12}, facts={"kept_step": kept})
    assert conductor._summary(found) == f": 16 steps{said}"
    nothing_held_out = found.model_copy(update={"counts_out": {"steps": 16}})
    assert conductor._summary(nothing_held_out) == ": 16 steps"
