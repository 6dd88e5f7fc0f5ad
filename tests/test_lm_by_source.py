"""Metrics split by source: means over a whole step or held-out set, in which the parts add up to the whole."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import plain_logps, plain_model, ragged_demonstrations, ragged_pairs, tiny_folder, tiny_model

from limbeck.lm.by_source import by_source
from limbeck.lm.load import LanguageModel
from limbeck.lm.objectives import DpoObjective, SftObjective
from limbeck.lm.packing import Item
from limbeck.lm.train import Objective, Values
from limbeck.recipe.training import Dpo, Sft

BUDGETS = (1, 60, 100_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("by_source"), "qwen2")


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return tiny_model(folder)


def told(rows: Sequence[Item], synthetic: Sequence[int]) -> list[Item]:
    """The rows, those at some places from a teacher and the others human."""
    return [replace(row, source="zero_shot" if n in synthetic else "human") for n, row in enumerate(rows)]


def of(source: str, rows: Sequence[Item]) -> list[Item]:
    return [row for row in rows if row.source == source]


@torch.no_grad()
def step(model: LanguageModel, objective: Objective, rows: Sequence[Item]) -> Values:
    found: Values = {}
    for part in objective.losses(model, rows):
        for name, value in part.sums.items():
            found[name] = found.get(name, 0.0) + float(value)
    return found


def test_sums_are_divided_by_the_totals_of_their_source_by_hand() -> None:
    items = [Item(str(n), (5,), ((6,),), source) for n, source in enumerate("abba")]
    found = by_source({"x": torch.tensor([1.0, 2.0, 3.0, 4.0]), "y": torch.ones(4)}, items, {"a": 10, "b": 2, "c": 1})
    assert {name: float(value) for name, value in found.items()} == {
        "x/a": 0.5, "x/b": 2.5, "y/a": pytest.approx(0.2), "y/b": 1.0,
    }  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("budget", BUDGETS)
def test_the_pairs_of_a_source_have_the_means_that_they_have_alone(model: LanguageModel, budget: int) -> None:
    pairs = told(ragged_pairs(), (1, 4))
    reference = {pair.id: (-30.0 - n, -35.0 + 2 * n) for n, pair in enumerate(pairs)}
    settings = Dpo(micro_batch_tokens=budget)
    objective = DpoObjective(pairs, pairs, reference, settings)
    for values in (step(model, objective, pairs), objective.validate(model)):
        for source in ("human", "zero_shot"):
            alone = DpoObjective([], of(source, pairs), reference, settings).validate(model)
            for name in ("loss", "margin", "accuracy"):
                assert values[f"{name}/{source}"] == pytest.approx(alone[name], rel=1e-4, abs=1e-4)
        whole = (4 * values["margin/human"] + 2 * values["margin/zero_shot"]) / 6
        assert values["margin"] == pytest.approx(whole, rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("budget", BUDGETS)
def test_the_loss_of_a_sources_demonstrations_is_per_token_of_theirs(
    model: LanguageModel, folder: Path, budget: int
) -> None:
    rows = told(ragged_demonstrations(), (0, 5))
    objective = SftObjective(rows, rows, Sft(micro_batch_tokens=budget), seed=1)
    plain = plain_model(folder)
    for values in (step(model, objective, rows), objective.validate(model)):
        for source in ("human", "zero_shot"):
            tokens = [plain_logps(plain, row.prompt, row.responses[0]) for row in of(source, rows)]
            assert values[f"loss/{source}"] == pytest.approx(-torch.cat(tokens).mean().item(), abs=1e-4)


def test_a_step_tells_of_the_sources_it_holds_and_one_source_is_not_split(model: LanguageModel) -> None:
    rows = told(ragged_demonstrations(), (0,))
    objective = SftObjective(rows, [], Sft(), seed=1)
    assert set(step(model, objective, rows[:2])) == {"loss", "loss/human", "loss/zero_shot"}
    assert set(step(model, objective, rows[1:])) == {"loss", "loss/human"}
    alone = told(rows, ())
    assert set(step(model, SftObjective(alone, alone, Sft(), seed=1), alone)) == {"loss"}
    assert set(SftObjective(alone, alone, Sft(), seed=1).validate(model)) == {"loss"}
    further = SftObjective(alone, rows, Sft(), seed=1)  # a second run: one source to train on, two held out
    assert set(step(model, further, alone)) == {"loss", "loss/human"}


def test_telling_sources_apart_changes_nothing_that_is_learnt(folder: Path) -> None:
    found = []
    for synthetic in ((), (1, 4)):
        model = tiny_model(folder)
        pairs = told(ragged_pairs(), synthetic)
        reference = {pair.id: (-30.0, -35.0) for pair in pairs}
        for part in DpoObjective(pairs, [], reference, Dpo(micro_batch_tokens=60)).losses(model, pairs):
            part.loss.backward()
            assert not any(value.requires_grad for name, value in part.sums.items() if "/" in name)
        found.append([parameter.grad.clone() for parameter in model.network.parameters() if parameter.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
