"""Losses against numbers worked out by hand and against the slow, obvious form."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.lm.losses import mean_nll, nll_per_token, sigmoid_dpo

nats = st.floats(-200, 0, width=32)


def test_sigmoid_dpo_by_hand() -> None:
    # Rewards 0.5 * (-10 + 12) = 1 and 0.5 * (-20 + 18) = -1; -log sigmoid(2) = log(1 + e^-2) = 0.126928.
    terms = sigmoid_dpo(torch.tensor([-10.0]), torch.tensor([-20.0]), torch.tensor([-12.0]), torch.tensor([-18.0]), 0.5)
    assert terms.chosen_reward.item() == 1.0
    assert terms.rejected_reward.item() == -1.0
    assert terms.margin.item() == 2.0
    assert terms.loss.item() == pytest.approx(0.126928, abs=1e-6)


@given(st.lists(st.tuples(nats, nats, nats, nats), min_size=1, max_size=5), st.floats(0.01, 1))
def test_sigmoid_dpo_is_the_slow_form(rows: list[tuple[float, float, float, float]], beta: float) -> None:
    columns = torch.tensor(rows, dtype=torch.float64).T
    got = sigmoid_dpo(columns[0], columns[1], columns[2], columns[3], beta)
    for place, (pc, pr, rc, rr) in enumerate(rows):
        margin = beta * (pc - rc) - beta * (pr - rr)
        slow = math.log1p(math.exp(-margin)) if margin > -30 else -margin
        assert got.loss[place].item() == pytest.approx(slow, abs=1e-9)
        assert got.margin[place].item() == pytest.approx(margin, abs=1e-9)


@given(nats, nats, st.floats(0.01, 10))
def test_sigmoid_dpo_is_ln_2_where_policy_and_reference_agree(chosen: float, rejected: float, beta: float) -> None:
    c, r = torch.tensor([chosen]), torch.tensor([rejected])
    terms = sigmoid_dpo(c, r, c, r, beta)
    assert terms.margin.item() == 0.0
    assert terms.loss.item() == pytest.approx(math.log(2), abs=1e-6)


def test_the_dpo_gradient_is_beta_times_the_error_probability() -> None:
    # Rafailov et al. 2023, section 4: d loss / d chosen = -beta sigmoid(-margin), and the opposite for rejected.
    chosen = torch.tensor([-3.0], requires_grad=True)
    rejected = torch.tensor([-5.0], requires_grad=True)
    sigmoid_dpo(chosen, rejected, torch.tensor([-4.0]), torch.tensor([-5.0]), 0.1).loss.sum().backward()
    weight = 0.1 / (1 + math.exp(0.1))
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-weight)
    assert rejected.grad.item() == pytest.approx(weight)


def test_nll_per_token_by_hand() -> None:
    assert nll_per_token(torch.tensor([-12.0, -3.0]), torch.tensor([4, 1])).tolist() == [3.0, 3.0]


def test_mean_nll_divides_by_the_step_and_not_by_what_it_is_given() -> None:
    assert mean_nll(torch.tensor([-1.0, -2.0, -3.0]), 12).item() == 0.5


@given(st.lists(nats, min_size=2, max_size=12), st.integers(1, 11))
def test_mean_nll_of_parts_adds_up_to_the_mean_of_the_whole(values: list[float], cut: int) -> None:
    tokens = torch.tensor(values, dtype=torch.float64)
    parts = mean_nll(tokens[:cut], len(values)) + mean_nll(tokens[cut:], len(values))
    assert parts.item() == pytest.approx(-sum(values) / len(values), abs=1e-9)
