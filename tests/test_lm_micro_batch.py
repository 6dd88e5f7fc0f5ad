"""How many tokens a pass has where the recipe says `"auto"`: on a CPU as ever, on a GPU as many as memory allows."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_folder, tiny_model

from limbeck.lm import micro_batch
from limbeck.lm.free_memory import Memory
from limbeck.lm.memory import Estimate, estimate_before_training, estimate_memory
from limbeck.lm.micro_batch import scoring_tokens, settled, widest
from limbeck.lm.optim import MasterAdamW
from limbeck.lm.packing import Item
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
        before = estimate_before_training(model, ITEMS, settings, GIB)
        optimizer = MasterAdamW(model.network, weight_decay=0.0)
        beside = estimate_memory(model, optimizer.weights(), ITEMS, settings, free_bytes=GIB, moments_held=True)
        optimizer.close()
        assert (before.fixed_bytes, before.kept_bytes) == (beside.fixed_bytes, beside.kept_bytes)
        assert (before.micro_batch_tokens, before.recomputed_bytes) == (8192, beside.recomputed_bytes)


def test_settings_are_settled_by_the_memory_of_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tiny_folder(tmp_path / "model", "llama"))
    settings = Sft(batch_size=400)
    assert settled(settings, model, ITEMS).micro_batch_tokens == 4_096
    wide = estimate_before_training(model, ITEMS, settings.model_copy(update={"micro_batch_tokens": 16_384}), 0)
    for share, tokens in ((1.02, 16_384), (0.98, 8_192)):
        free = round(share * (wide.kept_bytes / 0.85 - wide.available_bytes))
        monkeypatch.setattr(micro_batch, "device_memory", lambda _, free=free: Memory(free, free))
        monkeypatch.setattr(type(model), "device", CUDA)
        monkeypatch.setattr("limbeck.lm.memory.pack", lambda items, _: packed(items))
        assert settled(settings, model, ITEMS).micro_batch_tokens == tokens
        assert settled(settings.model_copy(update={"micro_batch_tokens": 77}), model, ITEMS).micro_batch_tokens == 77
        monkeypatch.undo()


def packed(items: Any) -> Any:
    """A row on the CPU, where a model says that it lies on a GPU."""
    from limbeck.lm.packing import pack

    return pack(items, torch.device("cpu"))
