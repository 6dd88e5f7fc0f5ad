"""What a GPU computes is what the CPU does, recorded or not; without one, what is said and kept there."""

import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from test_lm_generate import by_key, prompts, stopping_at, transformers_greedy
from tiny_models import plain_model, random_ids, tiny_folder, tiny_model

from limbeck.chat_engine import AT_ONCE
from limbeck.lm import general_runner
from limbeck.lm.choosing import Sampling, choose
from limbeck.lm.generate import Sample, generate, usual_slots
from limbeck.lm.load import LanguageModel, load_model
from limbeck.lm.objectives import pair_logps
from limbeck.lm.packing import Item
from limbeck.lm.recorded_steps import RecordedSteps

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
CUDA = torch.device("cuda")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("cuda"), head_dim=16)


def sampled(model: LanguageModel, sampling: Sampling, number: int = 3) -> dict[tuple[str, int], Sample]:
    return by_key(list(generate(model, prompts(num_samples=number), sampling)))


@needs_cuda
def test_greedy_on_cuda_in_fp32_equals_transformers_on_the_cpu(folder: Path) -> None:
    plain, stop = plain_model(folder), 3
    model = stopping_at(load_model(str(folder), CUDA, torch.float32), stop)
    got = sampled(model, Sampling(max_new_tokens=60), number=1)
    for prompt in prompts():
        assert got[prompt.id, 0].ids == transformers_greedy(plain, prompt, stop, 60)


@needs_cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_recorded_steps_give_the_bits_of_steps_that_are_launched_anew(
    folder: Path, dtype: torch.dtype, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(folder), CUDA, dtype)
    settings = Sampling(max_new_tokens=90, temperature=temperature, seed=5, slots=16, ignore_end_of_turn=True)
    replayed: list[Any] = []

    class Watched(RecordedSteps):
        def __init__(self, compute: Any) -> None:
            super().__init__(compute)
            replayed.append(self._steps)

    monkeypatch.setattr(general_runner, "RecordedSteps", Watched)
    recorded = sampled(model, settings)
    assert len(replayed[0]) >= 2  # several shapes were recorded
    monkeypatch.setattr(general_runner, "RecordedSteps", lambda compute: compute)
    assert sampled(model, settings) == recorded


@needs_cuda
def test_a_sample_on_cuda_does_not_depend_on_what_is_asked_for_beside_it(folder: Path) -> None:
    model = load_model(str(folder), CUDA, torch.bfloat16)
    settings = Sampling(max_new_tokens=50, temperature=1.0, seed=5, slots=16, ignore_end_of_turn=True)
    together = sampled(model, settings)
    for prompt in prompts(num_samples=3)[:3]:
        alone = by_key(list(generate(model, [prompt], settings)))
        assert alone == {key: together[key] for key in alone}


@needs_cuda
@pytest.mark.parametrize(("top_p", "top_k"), [(1.0, 0), (0.9, 0), (1.0, 7), (0.8, 20)])
def test_the_same_logits_and_numbers_give_the_same_tokens_on_cuda(top_p: float, top_k: int) -> None:
    logits = torch.randn(64, 5000, generator=torch.Generator().manual_seed(2)) * 2
    settings = Sampling(1, temperature=0.9, top_p=top_p, top_k=top_k)
    here, there = (choose(each, [random.Random(n) for n in range(64)], settings) for each in (logits, logits.to(CUDA)))
    assert here.tokens == there.tokens
    assert there.logps == pytest.approx(here.logps, abs=1e-4)


@needs_cuda
def test_pair_log_probabilities_on_cuda_in_fp32_are_those_of_the_cpu(folder: Path) -> None:
    draw = torch.Generator().manual_seed(4)
    items = [Item(f"i/{n}", random_ids(draw, 9), (random_ids(draw, 5 + n), random_ids(draw, 12))) for n in range(6)]
    here, there = (
        pair_logps(tiny_model(folder), items, 64),
        pair_logps(load_model(str(folder), CUDA, torch.float32), items, 64),
    )
    for name, values in here.items():
        assert there[name] == pytest.approx(values, abs=1e-3)


def test_without_a_gpu_as_many_samples_are_written_at_once_as_before_and_with_one_more() -> None:
    assert (usual_slots(torch.device("cpu")), usual_slots(CUDA)) == (96, 512)
    assert usual_slots(CUDA) == AT_ONCE  # as many conversations of a local teacher are under way


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The streams that were set, without a GPU; the current one is always called "its own"."""
    found: list[str] = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: "its own")
    monkeypatch.setattr(torch.cuda, "set_stream", found.append)
    return found


@needs_cuda
def test_after_a_step_that_cannot_be_recorded_all_go_on_where_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    def compute(rows: torch.Tensor, seen: int) -> torch.Tensor:
        return rows[0].float()[:, None] + float(rows.sum().item() >= 0) + seen  # waits for the GPU: no graph can

    before = torch.cuda.current_stream()
    steps = RecordedSteps(compute)
    rows = torch.arange(6, device=CUDA).expand(2, -1)
    found = [steps(rows, 32).tolist() for _ in range(8)]
    assert found == [[[n + 33.0] for n in range(6)]] * 8
    assert torch.cuda.current_stream() == before
    assert "cannot be recorded" in capsys.readouterr().err


def test_steps_that_cannot_be_recorded_are_computed_and_that_is_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, streams: list[str]
) -> None:
    def refused() -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", refused)
    steps = RecordedSteps(lambda rows, seen: rows[0].float() + seen)
    found = [steps(torch.tensor([[n, 2], [0, 1]]), 32).tolist() for n in range(9)]
    assert found == [[n + 32.0, 34.0] for n in range(9)]
    told = capsys.readouterr().err
    assert told.count("cannot be recorded as CUDA graphs (operation not permitted when stream is capturing)") == 1
    assert streams == ["its own"]  # the one that a broken recording may have left


@pytest.mark.usefixtures("streams")
def test_recorded_steps_of_all_shapes_write_their_logits_into_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    class Graph:  # records by carrying out, and replays nothing: what is looked at is where the logits lie
        def pool(self) -> None:
            return None

        def replay(self) -> None:
            return None

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: nullcontext())
    steps = RecordedSteps(lambda rows, seen: rows[0].float()[:, None].expand(-1, 7) + seen)
    rows = {number: torch.arange(number).expand(2, -1) for number in (16, 8)}
    found = {
        (number, seen): [steps(rows[number], seen) for _ in range(6)][-1] for number in (16, 8) for seen in (32, 64)
    }
    assert {key: tuple(logits.shape) for key, logits in found.items()} == {key: (key[0], 7) for key in found}
    assert len({logits.data_ptr() for logits in found.values()}) == 1
    assert found[8, 64][3].tolist() == [67.0] * 7  # the last that was recorded


@pytest.mark.usefixtures("streams")
def test_memory_that_runs_out_while_a_step_is_recorded_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", full)
    steps = RecordedSteps(lambda rows, seen: rows[0].float() + seen)
    with pytest.raises(torch.OutOfMemoryError):
        for _ in range(9):
            steps(torch.zeros(2, 3, dtype=torch.int64), 32)
