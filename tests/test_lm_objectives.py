"""Objectives: denominators of the whole step, the same gradient for every micro-batch, ln 2 at the first step."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import (
    IM_END,
    alike,
    plain_logps,
    plain_model,
    ragged_demonstrations,
    ragged_pairs,
    random_ids,
    tiny_folder,
    tiny_model,
    tiny_tokenizer,
)
from transformers import PreTrainedModel

from limbeck.lm.load import LanguageModel
from limbeck.lm.objectives import DpoObjective, SftObjective, mean_nll_of, pair_logps, rows_of_step
from limbeck.lm.packing import Item
from limbeck.lm.schedule import num_steps
from limbeck.lm.train import Objective
from limbeck.recipe.training import Dpo, Optimisation, Sft

BUDGETS = (1, 30, 75, 100_000)  # one row each ... all together
Gradients = dict[str, torch.Tensor]
# Every preference loss that a recipe can ask for, and its value where policy and reference agree.
LOSSES = {
    "sigmoid": (Dpo(beta=0.3), math.log(2)),
    "smoothed": (Dpo(beta=0.3, label_smoothing=0.2), math.log(2)),
    "normalised": (Dpo(beta=0.5, length_normalised=True, label_smoothing=0.1), math.log(2)),
    "ipo": (Dpo(loss="ipo", beta=0.3), 1 / (4 * 0.3**2)),
    "ipo_normalised": (Dpo(loss="ipo", beta=2, length_normalised=True), 1 / 16),
    "apo_zero": (Dpo(loss="apo_zero", beta=0.3), 1.0),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def loss_of(name: str, **changes: Any) -> Dpo:
    """The settings of one of `LOSSES`, with others changed."""
    return LOSSES[name][0].model_copy(update=changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("qwen2"), "qwen2")


@pytest.fixture
def model(folder: Path) -> LanguageModel:
    return tiny_model(folder)


@pytest.fixture
def plain(folder: Path) -> PreTrainedModel:
    return plain_model(folder)


def away_from_the_policy(items: Sequence[Item]) -> dict[str, tuple[float, float]]:
    """A made-up reference that is not the policy, so that margins differ from pair to pair."""
    return {item.id: (-30.0 - n, -35.0 + 2 * n) for n, item in enumerate(items)}


def gradients(model: LanguageModel, objective: Objective, rows: Sequence[Item]) -> tuple[float, Gradients]:
    model.network.zero_grad()
    total = 0.0
    for part in objective.losses(model, rows):
        part.loss.backward()
        total += float(part.sums["loss"].detach())
    found = {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}
    return total, found


def plain_gradients(network: PreTrainedModel, loss: torch.Tensor) -> Gradients:
    network.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def assert_same(got: Gradients, wanted: Gradients) -> None:
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(got[name], gradient, atol=1e-4 * scale, rtol=1e-3, msg=name)


@pytest.mark.parametrize("budget", BUDGETS)
def test_sft_divides_by_the_target_tokens_of_the_step_for_any_micro_batch(
    model: LanguageModel, plain: PreTrainedModel, budget: int
) -> None:
    alone = [row for row in alike() if len(row.responses) == 1]
    rows = ragged_demonstrations() + alone
    objective = SftObjective(rows, [], Sft(micro_batch_tokens=budget), seed=1)
    loss, found = gradients(model, objective, rows)
    tokens = [plain_logps(plain, row.prompt, row.responses[0]) for row in rows]
    slow = -torch.cat(tokens).sum() / (8 + 1 + 1 + 9 + 25 + 4 + 3 + sum(len(row.responses[0]) for row in alone))
    assert loss == pytest.approx(slow.item(), abs=1e-5)
    assert_same(found, plain_gradients(plain, slow))


def slow_preference_loss(settings: Dpo, chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Of one pair's log-ratios (scalars), as the papers print it."""
    margin = settings.beta * (chosen - rejected)
    if settings.loss == "ipo":
        return (chosen - rejected - 1 / (2 * settings.beta)) ** 2
    if settings.loss == "apo_zero":
        return 1 - torch.sigmoid(settings.beta * chosen) + torch.sigmoid(settings.beta * rejected)
    wrong = settings.label_smoothing
    return (1 - wrong) * torch.log1p(torch.exp(-margin)) + wrong * torch.log1p(torch.exp(margin))


@every_loss
@pytest.mark.parametrize("budget", BUDGETS)
def test_every_preference_loss_divides_by_the_pairs_of_the_step_for_any_micro_batch(
    model: LanguageModel, plain: PreTrainedModel, name: str, budget: int
) -> None:
    rows = ragged_pairs() + [row for row in alike() if len(row.responses) == 2]
    reference = away_from_the_policy(rows)
    settings = loss_of(name, micro_batch_tokens=budget, nll_weight=0.5)
    loss, found = gradients(model, DpoObjective(rows, [], reference, settings), rows)
    slow = torch.zeros(())
    for row in rows:
        chosen, rejected = (plain_logps(plain, row.prompt, response).sum() for response in row.responses)
        ratios = [policy - other for policy, other in zip((chosen, rejected), reference[row.id], strict=True)]
        if settings.length_normalised:
            ratios = [ratio / len(response) for ratio, response in zip(ratios, row.responses, strict=True)]
        slow = slow + slow_preference_loss(settings, *ratios) - 0.5 * chosen / len(row.responses[0])
    slow = slow / len(rows)
    assert loss == pytest.approx(slow.item(), rel=1e-4, abs=1e-4)
    assert_same(found, plain_gradients(plain, slow))


def rows_of_twenty_tokens(number: int, responses: int) -> list[Item]:
    """Rows that compute 20 tokens each, with ever different numbers of target tokens."""
    draw = torch.Generator().manual_seed(11)
    rows = []
    for n in range(number):
        prompt = 2 + n
        first = 21 - prompt if responses == 1 else 1 + n % 5
        lengths = [first] if responses == 1 else [first, 22 - prompt - first]
        rows.append(Item(str(n), random_ids(draw, prompt), tuple(random_ids(draw, length) for length in lengths)))
    assert {row.num_tokens for row in rows} == {20}
    return rows


@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize(
    ("step", "micro_batches"),
    [(0, {20: 8, 40: 4, 160: 1}), (1, {20: 3, 40: 2, 160: 1})],
    ids=["8x1, 4x2, 1x8", "a ragged last window of 3"],
)
def test_micro_batches_of_any_shape_give_one_gradient(
    model: LanguageModel, kind: str, step: int, micro_batches: dict[int, int]
) -> None:
    settings: dict[str, float] = {"batch_size": 8, "epochs": 1}
    rows = rows_of_twenty_tokens(11, 1 if kind == "sft" else 2)
    found = []
    for budget, number in micro_batches.items():
        objective: Objective = (
            SftObjective(rows, [], Sft(**settings, micro_batch_tokens=budget), seed=1)
            if kind == "sft"
            else DpoObjective(rows, [], away_from_the_policy(rows), Dpo(**settings, micro_batch_tokens=budget))
        )
        window = objective.rows(step)
        with torch.no_grad():
            assert len(list(objective.losses(model, window))) == number
        found.append(gradients(model, objective, window))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], abs=1e-5)
        assert_same(gradient, found[0][1])


def test_a_ragged_last_dpo_step_divides_by_its_own_pairs(model: LanguageModel, plain: PreTrainedModel) -> None:
    rows = ragged_pairs()
    reference = away_from_the_policy(rows)
    objective = DpoObjective(rows, [], reference, Dpo(batch_size=4, epochs=1, beta=0.3, nll_weight=0))
    last = objective.rows(1)
    assert [row.id for row in last] == ["pair/4", "pair/5"]
    loss, _ = gradients(model, objective, last)
    slow = 0.0
    for row in last:
        chosen, rejected = (plain_logps(plain, row.prompt, response).sum().item() for response in row.responses)
        slow += math.log1p(math.exp(-0.3 * (chosen - reference[row.id][0] - (rejected - reference[row.id][1])))) / 2
    assert loss == pytest.approx(slow, abs=1e-4)


def test_a_ragged_last_step_has_denominators_of_its_own(model: LanguageModel, plain: PreTrainedModel) -> None:
    rows = ragged_demonstrations()
    objective = SftObjective(rows, [], Sft(batch_size=3, epochs=1), seed=1)
    last = objective.rows(2)
    assert len(last) == 1
    loss, _ = gradients(model, objective, last)
    slow = -plain_logps(plain, last[0].prompt, last[0].responses[0]).mean()
    assert loss == pytest.approx(slow.item(), abs=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text"])
def test_the_end_of_turn_is_learnt_and_read_like_any_token_where_it_is_also_the_pad_token(
    architecture: str, tmp_path: Path
) -> None:
    """transformers gives the embedding of a pad token no gradient; here nothing is padded, so it stands for itself."""
    end = tiny_tokenizer("pad_is_eos").convert_tokens_to_ids(IM_END)
    assert isinstance(end, int)
    folder = tiny_folder(tmp_path / "model", architecture, "pad_is_eos", pad_token_id=end, eos_token_id=end)
    ours, theirs = tiny_model(folder), plain_model(folder)
    assert ours.chat.tokenizer.pad_token_id == ours.chat.end_of_turn == end
    theirs.get_input_embeddings().padding_idx = None
    draw = torch.Generator().manual_seed(4)
    turns = (*random_ids(draw, 5), end, *random_ids(draw, 4), end)  # a prompt of two turns
    row = Item("a", turns, ((*random_ids(draw, 6), end),))
    loss, found = gradients(ours, SftObjective([row], [], Sft(), seed=1), [row])
    slow = -plain_logps(theirs, row.prompt, row.responses[0]).sum() / 7
    assert loss == pytest.approx(slow.item(), abs=1e-5)
    assert_same(found, plain_gradients(theirs, slow))


@torch.no_grad()
@pytest.mark.parametrize("scored_with", BUDGETS)
@pytest.mark.parametrize("trained_with", BUDGETS)
def test_the_first_step_has_margin_0_and_the_loss_of_agreement_whatever_the_packing(
    model: LanguageModel, scored_with: int, trained_with: int
) -> None:
    pairs = ragged_pairs()
    reference = pair_logps(model, pairs, scored_with)
    for name, (_, loss) in LOSSES.items():
        settings = loss_of(name, micro_batch_tokens=trained_with, nll_weight=0.2)
        values = DpoObjective(pairs, pairs, reference, settings).validate(model)
        assert values["preference_loss"] == pytest.approx(loss, rel=1e-4), name
        assert values["margin"] == pytest.approx(0.0, abs=1e-5)
        assert values["chosen_logps_change"] == pytest.approx(0.0, abs=1e-4)
        assert values["loss"] == pytest.approx(values["preference_loss"] + 0.2 * values["nll"], abs=1e-5)


@torch.no_grad()
@every_loss
def test_validation_reports_means_over_pairs(model: LanguageModel, plain: PreTrainedModel, name: str) -> None:
    pairs = ragged_pairs()
    reference = away_from_the_policy(pairs)
    settings = loss_of(name, micro_batch_tokens=50)
    values = DpoObjective(pairs, pairs, reference, settings).validate(model)
    changes = [
        [float(plain_logps(plain, pair.prompt, response).sum()) - other
         for response, other in zip(pair.responses, reference[pair.id], strict=True)]
        for pair in pairs
    ]  # fmt: skip
    lengths = [[len(r) if settings.length_normalised else 1 for r in pair.responses] for pair in pairs]
    ratios = [[x / n for x, n in zip(*both, strict=True)] for both in zip(changes, lengths, strict=True)]
    margins = [settings.beta * (chosen - rejected) for chosen, rejected in ratios]
    losses = [slow_preference_loss(settings, *map(torch.tensor, pair)).item() for pair in ratios]
    assert values["preference_loss"] == pytest.approx(sum(losses) / 6, rel=1e-4)
    assert values["margin"] == pytest.approx(sum(margins) / 6, abs=1e-4)
    assert values["accuracy"] == pytest.approx(sum(margin > 0 for margin in margins) / 6)
    assert values["rejected_logps_change"] == pytest.approx(sum(r for _, r in changes) / 6, abs=1e-3)  # whole responses


def test_an_nll_weight_of_0_is_measured_and_not_learnt_from(model: LanguageModel) -> None:
    pairs = ragged_pairs()
    (part,) = DpoObjective(pairs, [], away_from_the_policy(pairs), Dpo(nll_weight=0)).losses(model, pairs)
    assert part.loss.item() == float(part.sums["loss"]) == float(part.sums["preference_loss"])
    assert float(part.sums["nll"]) > 0
    assert [name for name, value in part.sums.items() if value.requires_grad] == []


@pytest.mark.parametrize("budget", BUDGETS)
def test_mean_nll_is_over_tokens_and_not_over_rows(model: LanguageModel, plain: PreTrainedModel, budget: int) -> None:
    rows = ragged_demonstrations()
    with torch.no_grad():
        slow = -torch.cat([plain_logps(plain, row.prompt, row.responses[0]) for row in rows]).mean()
    assert mean_nll_of(model, rows, budget) == pytest.approx(slow.item(), abs=1e-5)


def test_nothing_held_out_validates_to_nothing(model: LanguageModel) -> None:
    assert SftObjective(ragged_demonstrations(), [], Sft(), seed=1).validate(model) == {}
    assert DpoObjective(ragged_pairs(), [], {}, Dpo()).validate(model) == {}


def steps_of(settings: Optimisation, rows: Sequence[Item], seed: int) -> Iterator[list[str]]:
    objective = SftObjective(rows, [], settings, seed)
    for step in range(num_steps(settings, len(rows))):
        yield [row.id for row in objective.rows(step)]


@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 4), st.integers(0, 5))
def test_each_epoch_visits_every_row_exactly_once(num_rows: int, batch_size: int, epochs: int, seed: int) -> None:
    rows = [Item(str(n), (5,), ((6,),)) for n in range(num_rows)]
    settings = Sft(batch_size=batch_size, epochs=epochs)
    steps = list(steps_of(settings, rows, seed))
    stream = [id_ for step in steps for id_ in step]
    for epoch in range(epochs):
        assert sorted(stream[epoch * num_rows : (epoch + 1) * num_rows]) == sorted(row.id for row in rows)
    assert len(stream) == epochs * num_rows
    assert all(len(step) == batch_size for step in steps[:-1])
    assert steps == list(steps_of(settings, rows, seed))


@given(st.integers(1, 30), st.integers(1, 9), st.floats(0.05, 3.0))
def test_a_fraction_of_an_epoch_visits_that_fraction_of_rows(num_rows: int, batch_size: int, epochs: float) -> None:
    rows = [Item(str(n), (5,), ((6,),)) for n in range(num_rows)]
    steps = list(steps_of(Sft(batch_size=batch_size, epochs=epochs), rows, 1))
    counts = Counter(id_ for step in steps for id_ in step)
    assert sum(counts.values()) == max(1, round(epochs * num_rows))
    assert max(counts.values()) - (min(counts.values()) if len(counts) == num_rows else 0) <= 1
    assert all(steps)


def test_sft_epochs_have_orders_of_their_own_and_dpo_keeps_the_order_of_the_mixture() -> None:
    rows = [Item(str(n), (5,), ((6,), (7,))) for n in range(20)]
    sft = SftObjective(rows, [], Sft(batch_size=20, epochs=2), seed=1)
    assert [row.id for row in sft.rows(0)] != [row.id for row in sft.rows(1)]
    dpo = DpoObjective(rows, [], {}, Dpo(batch_size=20, epochs=2))
    assert list(dpo.rows(0)) == list(dpo.rows(1)) == rows


def test_a_batch_goes_on_into_the_next_epoch() -> None:
    rows = [Item(str(n), (5,), ((6,),)) for n in range(3)]
    got = [
        [row.id for row in rows_of_step(rows, step, Sft(batch_size=2, epochs=2), lambda epoch: [epoch, 2, 1 - epoch])]
        for step in range(3)
    ]
    assert got == [["0", "2"], ["1", "1"], ["2", "0"]]


@torch.no_grad()
def test_drift_and_changes_are_per_token_and_the_longer_response_counts_half_where_both_are_as_long(
    model: LanguageModel, plain: PreTrainedModel
) -> None:
    """Chosen of 5, 1, 6, 1, 3, 20 tokens and rejected of 12, 7, 1, 1, 3, 30: one longer, two as long."""
    rows = ragged_pairs()
    reference = away_from_the_policy(rows)
    values = DpoObjective(rows, rows, reference, Dpo(micro_batch_tokens=60)).validate(model)
    changes = [
        [(float(plain_logps(plain, row.prompt, response).sum()) - other) / len(response)
         for response, other in zip(row.responses, reference[row.id], strict=True)]
        for row in rows
    ]  # fmt: skip
    chosen, rejected = (sum(pair[side] for pair in changes) / 6 for side in (0, 1))
    assert values["chosen_logps_change_per_token"] == pytest.approx(chosen, abs=1e-4)
    assert values["rejected_logps_change_per_token"] == pytest.approx(rejected, abs=1e-4)
    assert values["drift"] == pytest.approx(sum(abs(c) + abs(r) for c, r in changes) / 12, abs=1e-4)
    assert values["longer_is_chosen"] == pytest.approx((1 + 2 / 2) / 6)
