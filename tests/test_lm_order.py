"""The order of training: that of the rows where it was given, the same after a kill; no packed row crosses a step."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import plain_logps, plain_model, ragged_demonstrations, ragged_pairs, tiny_folder, tiny_model
from transformers import PreTrainedModel

from limbeck.lm.load import LanguageModel
from limbeck.lm.objectives import DpoObjective, SftObjective, pair_logps
from limbeck.lm.packing import Item
from limbeck.lm.schedule import num_steps
from limbeck.lm.train import METRICS, Objective, Trainer, Values
from limbeck.recipe.training import Dpo, Optimisation, Sft
from limbeck.records import Metric
from limbeck.store import read_records

WHOLE = {"micro_batch_tokens": 100_000}  # everything would fit into one packed row
FROZEN = {"learning_rate": 1e-30, "weight_decay": 0.0}  # a step that changes no weight


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("order"), "qwen2")


def objective_of(kind: str, model: LanguageModel, **settings: float) -> tuple[Objective, Optimisation]:
    if kind == "sft":
        sft, rows = Sft(**settings), ragged_demonstrations()
        return SftObjective(rows, rows[2:5], sft, seed=5, reshuffles=False), sft
    dpo, pairs = Dpo(**settings), ragged_pairs()
    return DpoObjective(pairs, pairs[:2], pair_logps(model, pairs, 60), dpo), dpo


def points(out: Path) -> list[tuple[int, str, Values]]:
    return [
        (point.step, point.split, {name: v for name, v in point.values.items() if name != "tokens_per_second"})
        for point in read_records(out / METRICS, Metric)
    ]


@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 4))
def test_rows_whose_order_was_given_come_in_it_in_every_epoch(num_rows: int, batch_size: int, epochs: int) -> None:
    rows = [Item(str(n), (5,), ((6,),)) for n in range(num_rows)]
    pairs = [Item(str(n), (5,), ((6,), (7,))) for n in range(num_rows)]
    sft, dpo = Sft(batch_size=batch_size, epochs=epochs), Dpo(batch_size=batch_size, epochs=epochs)
    for objective in (SftObjective(rows, [], sft, seed=1, reshuffles=False), DpoObjective(pairs, [], {}, dpo)):
        stream = [row for step in range(num_steps(sft, num_rows)) for row in objective.rows(step)]
        assert stream == [*objective.train] * epochs


@pytest.mark.parametrize("batch_size", [2, 4])
def test_no_packed_row_crosses_an_optimizer_step(folder: Path, tmp_path: Path, batch_size: int) -> None:
    """Each step's loss is that of the rows of its own mini-batch alone, in the order given, computed one by one."""
    model, plain = tiny_model(folder), plain_model(folder)
    objective, settings = objective_of("sft", model, batch_size=batch_size, epochs=2, **WHOLE, **FROZEN)
    Trainer(model, objective, settings, tmp_path, "SFT").run()
    stream = [*objective.train] * 2
    batches = [stream[start : start + batch_size] for start in range(0, len(stream), batch_size)]
    got = [values["loss"] for _, split, values in points(tmp_path) if split == "train"]
    assert got == pytest.approx([slow_loss(plain, batch) for batch in batches], abs=1e-4)
    for step in range(len(batches)):
        with torch.no_grad():
            assert len(list(objective.losses(model, objective.rows(step)))) == 1


@torch.no_grad()
def slow_loss(plain: PreTrainedModel, batch: Sequence[Item]) -> float:
    tokens = [plain_logps(plain, row.prompt, row.responses[0]) for row in batch]
    return -torch.cat(tokens).mean().item()


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize("killed_at", [1, 3, 4])
def test_a_killed_run_in_a_given_order_ends_as_the_uninterrupted_one_bit_for_bit(
    folder: Path, tmp_path: Path, kind: str, killed_at: int
) -> None:
    settings = {"batch_size": 2, "epochs": 2, "checkpoint_every_minutes": 1e-9, "learning_rate": 1e-3}

    class Dying:
        """The objective of a process that ends before a step."""

        def __init__(self, inner: Objective) -> None:
            self.inner, self.train, self.heldout, self.num_rows = inner, inner.train, inner.heldout, inner.num_rows
            self.losses, self.validate = inner.losses, inner.validate

        def rows(self, step: int) -> Sequence[Item]:
            if step == killed_at:
                raise KilledError
            return self.inner.rows(step)

    model = tiny_model(folder)
    objective, optimisation = objective_of(kind, model, **settings)
    with pytest.raises(KilledError):
        Trainer(model, Dying(objective), optimisation, tmp_path / "killed", kind).run()
    ends = []
    for name in ("killed", "whole"):
        again = tiny_model(folder)
        Trainer(again, objective, optimisation, tmp_path / name, kind).run()
        ends.append(([weight.detach().clone() for weight in again.network.parameters()], points(tmp_path / name)))
    assert all(torch.equal(one, other) for one, other in zip(ends[0][0], ends[1][0], strict=True))
    assert ends[0][1] == ends[1][1]
