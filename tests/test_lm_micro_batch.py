"""How many tokens a pass has where the recipe says `"auto"`: on a CPU as ever, on a GPU as many as memory allows."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny_models import tiny_folder, tiny_model

from limbeck.errors import TrainingError
from limbeck.lm import memory, micro_batch
from limbeck.lm.free_memory import Memory
from limbeck.lm.load import LanguageModel
from limbeck.lm.memory import Estimate, estimate_memory, estimates_before_training
from limbeck.lm.micro_batch import scoring_tokens, settled, widest
from limbeck.lm.objectives import pair_logps
from limbeck.lm.optim import MasterAdamW
from limbeck.lm.packing import Item, pack
from limbeck.lm.reference_logps import Reference, reference_logps
from limbeck.planning.machine import Machine
from limbeck.planning.ranges import exact
from limbeck.planning.work import Work
from limbeck.recipe.training import Dpo, Optimisation, Sft

GIB = 2**30
CUDA = torch.device("cuda")
ITEMS = [Item(f"row/{number}", (5,) * 30, ((6,) * 70,)) for number in range(400)]


def estimating(kept_bytes_a_token: int, recomputed_bytes_a_token: int, available: int) -> Any:
    """Estimates that are proportional to the tokens, and of what they were asked."""
    asked: list[int] = []

    def estimate(tokens: int) -> Estimate:
        asked.append(tokens)
        return Estimate(tokens, 0, tokens * kept_bytes_a_token, tokens * recomputed_bytes_a_token, available)

    estimate.asked = asked  # type: ignore[attr-defined]
    return estimate


@pytest.mark.parametrize(
    ("available", "tokens"),
    [(100_000, 32_768), (38_000, 16_384), (19_000, 8_192), (9_000, 4_096), (10, 4_096)],  # 0.85 of it is used
)
def test_a_gpu_takes_the_widest_pass_whose_kept_activations_fit(available: int, tokens: int) -> None:
    assert widest(Optimisation(), "cuda", estimating(1, 0, available)) == tokens


def test_where_activations_are_to_be_computed_again_their_peak_decides() -> None:
    again = Optimisation(gradient_checkpointing="on")
    assert widest(again, "cuda", estimating(10, 1, 50_000)) == 32_768
    assert widest(Optimisation(), "cuda", estimating(10, 1, 50_000)) == 4_096


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_elsewhere_a_pass_is_as_wide_as_ever_and_nothing_is_estimated(device: str) -> None:
    estimate = estimating(0, 0, GIB)
    assert (widest(Optimisation(), device, estimate), estimate.asked) == (4_096, [])


def test_a_number_in_the_recipe_stands_on_every_device() -> None:
    asked = Sft(micro_batch_tokens=1234)
    estimate = estimating(0, 0, GIB)
    assert (widest(asked, "cuda", estimate), estimate.asked) == (1234, [])
    assert (asked.tokens_at_once, scoring_tokens(asked, CUDA)) == (1234, 1234)


def test_passes_that_keep_nothing_are_wide_on_a_gpu_alone() -> None:
    assert [scoring_tokens(Dpo(), device) for device in (CUDA, torch.device("cpu"))] == [32_768, 4_096]


def test_what_is_said_before_there_is_an_optimizer_is_what_is_said_beside_one(tmp_path: Path) -> None:
    for number, dtype in enumerate((torch.float32, torch.bfloat16)):
        model = tiny_model(tiny_folder(tmp_path / str(number), "qwen2"), dtype)
        settings = Optimisation(batch_size=400, micro_batch_tokens=8192)
        before = estimates_before_training(model, ITEMS, settings, GIB)(8192)
        optimizer = MasterAdamW(model.network, weight_decay=0.0)
        beside = estimate_memory(model, optimizer.weights(), ITEMS, settings, free_bytes=GIB, moments_held=True)
        optimizer.close()
        assert (before.fixed_bytes, before.kept_bytes) == (beside.fixed_bytes, beside.kept_bytes)
        assert (before.micro_batch_tokens, before.recomputed_bytes) == (8192, beside.recomputed_bytes)


@pytest.fixture
def on_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LanguageModel:
    """A model of the CPU that says it lies on a GPU."""
    model = tiny_model(tiny_folder(tmp_path / "model", "llama"))
    monkeypatch.setattr(type(model), "device", CUDA)
    monkeypatch.setattr(memory, "pack", lambda items, _: pack(items, torch.device("cpu")))
    return model


@pytest.mark.parametrize(("share", "tokens"), [(1.02, 16_384), (0.98, 8_192)])
def test_settings_are_settled_by_the_memory_that_a_gpu_has_free(
    on_cuda: LanguageModel, monkeypatch: pytest.MonkeyPatch, share: float, tokens: int
) -> None:
    settings = Sft(batch_size=400)
    wide = estimates_before_training(on_cuda, ITEMS, settings, 0)(16_384)
    free = round(share * (wide.kept_bytes / 0.85 - wide.available_bytes))
    monkeypatch.setattr(micro_batch, "device_memory", lambda _: Memory(free, free))
    assert settled(settings, on_cuda, ITEMS, "SFT").micro_batch_tokens == tokens
    asked = settings.model_copy(update={"micro_batch_tokens": 77})
    assert settled(asked, on_cuda, ITEMS, "SFT").micro_batch_tokens == 77


def test_a_gpu_without_memory_for_a_look_at_the_model_is_told_in_one_sentence(
    on_cuda: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(micro_batch, "device_memory", lambda _: Memory(GIB, GIB))
    monkeypatch.setattr(memory, "saved_bytes", full)
    with pytest.raises(TrainingError, match="DPO mixed: memory ran out; what would help: "):
        settled(Dpo(), on_cuda, ITEMS, "DPO mixed")


def test_a_plan_reckons_with_the_width_that_training_will_take() -> None:
    def estimate(tokens: int, free: int, **_: object) -> Estimate:
        return Estimate(tokens, 0, tokens, tokens // 9, free)

    def footprint(*_: object) -> SimpleNamespace:
        return SimpleNamespace(estimate=estimate)

    work = Work(settings=Dpo(batch_size=400), rows=exact(400), longest=300, responses=2)
    for device, free, tokens in (("cuda", 100_000, 32_768), ("cuda", 19_000, 8_192), ("cpu", 100_000, 4_096)):
        found = Machine("one", free, footprint=footprint, device_type=device).memory(work, reward=False)
        assert found is not None
        assert (found.estimate.micro_batch_tokens, found.recomputed) == (tokens, False)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "lots", True, 10_000_001])
def test_a_width_that_is_none_is_told_what_would_be_right(wrong: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Sft.model_validate({"micro_batch_tokens": wrong})
    (error,) = refused.value.errors()
    assert error["loc"] == ("micro_batch_tokens",)
    assert 'should be "auto" or a whole number from 1 to 10,000,000' in error["msg"]


def test_where_a_wide_row_is_too_much_to_score_narrower_ones_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tiny_folder(tmp_path / "model", "llama"))
    pairs = [Item(f"pair/{n}", (5,) * (n + 3), ((6,) * 70, (7,) * 60)) for n in range(100)]
    reference = Reference(tmp_path / "model", torch.device("cpu"), torch.float32, lambda: model)
    right = reference_logps(reference, pairs, 4_096, tmp_path / "narrow.jsonl", tmp_path / "a.db", "DPO").logps
    rows: list[int] = []

    def narrow(model: LanguageModel, items: Sequence[Item], most: int) -> dict[str, tuple[float, float]]:
        rows.append(sum(item.num_tokens for item in items))
        if rows[-1] > least:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pair_logps(model, items, most)

    monkeypatch.setattr("limbeck.lm.reference_logps.pair_logps", narrow)
    least = 5_000
    found = reference_logps(reference, pairs, 16_384, tmp_path / "wide.jsonl", tmp_path / "b.db", "DPO").logps
    for id_, values in right.items():
        assert found[id_] == pytest.approx(values, abs=1e-3)
    assert found.keys() == right.keys()
    assert [tokens > 5_000 for tokens in rows[:3]] == [True, True, False]
    least = 1_000
    with pytest.raises(TrainingError, match="memory ran out; what would help: a lower micro_batch_tokens"):
        reference_logps(reference, pairs, 16_384, tmp_path / "none.jsonl", tmp_path / "c.db", "DPO")
