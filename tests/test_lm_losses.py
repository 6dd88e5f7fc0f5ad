"""Losses against numbers worked out by hand and against the slow, obvious form."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.lm.losses import Rewards, apo_zero, ipo, mean_nll, nll_per_token, rewards, sigmoid_dpo

nats = st.floats(-200, 0, width=32)
pairs = st.lists(st.tuples(nats, nats, nats, nats, st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=5)
betas = st.floats(0.01, 5)
smoothings = st.floats(0, 0.49)
Loss = Callable[[Rewards], Tensor]
BETA = 0.5
LOSSES: dict[str, Loss] = {
    "sigmoid": sigmoid_dpo,
    "smoothed": partial(sigmoid_dpo, label_smoothing=0.25),
    "ipo": partial(ipo, beta=BETA),
    "apo_zero": apo_zero,
}
AT_AGREEMENT = {"sigmoid": math.log(2), "smoothed": math.log(2), "ipo": 1 / (4 * BETA**2), "apo_zero": 1.0}
every_loss = pytest.mark.parametrize("name", LOSSES)


def of(chosen: float, rejected: float) -> Rewards:
    """The rewards of one pair, for gradients too."""
    return Rewards(*(torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (chosen, rejected)))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_rewards_by_hand() -> None:
    policy, reference = torch.tensor([[-10.0, -20.0]]), torch.tensor([[-12.0, -18.0]])
    whole = rewards(policy, reference, beta=0.5)
    assert (whole.chosen.item(), whole.rejected.item(), whole.margin.item()) == (1.0, -1.0, 2.0)
    a_token = rewards(policy, reference, beta=5.0, num_tokens=torch.tensor([[4, 8]]))
    assert (a_token.chosen.item(), a_token.rejected.item(), a_token.margin.item()) == (2.5, -1.25, 3.75)


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        # -log sigmoid(2) = log(1 + e^-2) = 0.126928; smoothed: 0.75 * 0.126928 + 0.25 * 2.126928 = 0.626928.
        ("sigmoid", 0.126928),
        ("smoothed", 0.626928),
        # h = 2 / 0.5 = 4 and its target 1 / (2 * 0.5) = 1: 3^2. The chosen and the rejected: twice sigmoid(-1).
        ("ipo", 9.0),
        ("apo_zero", 2 * 0.268941),
    ],
)
def test_every_loss_by_hand_at_rewards_1_and_minus_1(name: str, by_hand: float) -> None:
    assert LOSSES[name](of(1.0, -1.0)).item() == pytest.approx(by_hand, abs=1e-6)


@given(pairs, betas, smoothings, st.booleans())
def test_every_loss_is_the_slow_form(
    rows: list[tuple[float, float, float, float, int, int]], beta: float, smoothing: float, normalised: bool
) -> None:
    columns = torch.tensor(rows, dtype=torch.float64)
    found = rewards(columns[:, :2], columns[:, 2:4], beta, columns[:, 4:] if normalised else None)
    got = {
        "sigmoid": sigmoid_dpo(found),
        "smoothed": sigmoid_dpo(found, smoothing),
        "ipo": ipo(found, beta),
        "apo_zero": apo_zero(found),
    }
    for place, (pc, pr, rc, rr, chosen_tokens, rejected_tokens) in enumerate(rows):
        chosen = (pc - rc) / (chosen_tokens if normalised else 1)
        rejected = (pr - rr) / (rejected_tokens if normalised else 1)
        margin = beta * (chosen - rejected)
        right, wrong = softplus(-margin), softplus(margin)  # -log sigmoid(margin), -log sigmoid(-margin)
        slow = {
            "sigmoid": right,
            "smoothed": (1 - smoothing) * right + smoothing * wrong,
            "ipo": (chosen - rejected - 1 / (2 * beta)) ** 2,
            "apo_zero": (1 - 1 / (1 + exp(-beta * chosen))) + 1 / (1 + exp(-beta * rejected)),
        }
        assert {name: loss[place].item() for name, loss in got.items()} == pytest.approx(slow, rel=1e-9, abs=1e-9)
        assert found.margin[place].item() == pytest.approx(margin, abs=1e-9)


def softplus(x: float) -> float:
    return math.log1p(math.exp(-abs(x))) + max(x, 0)


def exp(x: float) -> float:
    return math.exp(min(x, 700))


@every_loss
@given(nats, nats, betas, st.integers(1, 99), st.booleans())
def test_where_policy_and_reference_agree_the_margin_is_0_and_the_loss_known(
    name: str, chosen: float, rejected: float, beta: float, tokens: int, normalised: bool
) -> None:
    logps = torch.tensor([[chosen, rejected]])
    found = rewards(logps, logps, beta, torch.tensor([[tokens, 7]]) if normalised else None)
    assert found.margin.item() == 0.0
    assert LOSSES[name](found).item() == pytest.approx(AT_AGREEMENT[name], abs=1e-6)
    assert ipo(found, beta).item() == pytest.approx(1 / (4 * beta**2), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "slopes"),
    [
        # Rafailov et al. 2023, section 4: d loss / d chosen reward = -sigmoid(-margin), and the opposite for rejected.
        ("sigmoid", (-sigmoid(-0.3), sigmoid(-0.3))),
        # (1 - e) of that, and e of a pair the other way round: -(1 - e) sigmoid(-m) + e sigmoid(m) = e - sigmoid(-m).
        ("smoothed", (0.25 - sigmoid(-0.3), sigmoid(-0.3) - 0.25)),
        # 2 (m - 1/2) / beta^2 = 2 * (0.3 - 0.5) / 0.25
        ("ipo", (-1.6, 1.6)),
        # -s (1 - s) and s (1 - s), with s the sigmoid of each response's own reward
        ("apo_zero", (-sigmoid(0.1) * sigmoid(-0.1), sigmoid(-0.2) * sigmoid(0.2))),
    ],
)
def test_every_gradient_is_the_derivative_by_hand(name: str, slopes: tuple[float, float]) -> None:
    found = of(0.1, -0.2)
    LOSSES[name](found).sum().backward()
    assert [side.grad.item() for side in found if side.grad is not None] == pytest.approx(slopes, rel=1e-9)


@every_loss
def test_every_gradient_is_that_of_finite_differences(name: str) -> None:
    def loss(chosen: Tensor, rejected: Tensor) -> Tensor:
        return LOSSES[name](Rewards(chosen, rejected))

    assert torch.autograd.gradcheck(loss, (*of(0.7, -0.4),))


@every_loss
def test_every_loss_wants_chosen_up_and_rejected_down_at_the_first_step(name: str) -> None:
    found = of(0.0, 0.0)
    LOSSES[name](found).sum().backward()
    assert found.chosen.grad is not None
    assert found.rejected.grad is not None
    assert found.chosen.grad.item() < 0 < found.rejected.grad.item()


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_label_smoothing_of_0_is_the_plain_loss_and_of_a_half_cannot_tell_chosen_from_rejected(
    chosen: float, rejected: float
) -> None:
    there, back = of(chosen, rejected), of(rejected, chosen)
    assert sigmoid_dpo(there, 0.0).item() == sigmoid_dpo(there).item()
    assert sigmoid_dpo(there, 0.5).item() == pytest.approx(sigmoid_dpo(back, 0.5).item(), abs=1e-9)


def test_smoothed_dpo_and_ipo_rest_at_a_finite_margin_and_plain_dpo_nowhere() -> None:
    def slope(loss: Loss, margin: float) -> float:
        found = of(margin, 0.0)
        loss(found).sum().backward()
        assert found.chosen.grad is not None
        return found.chosen.grad.item()

    assert slope(LOSSES["smoothed"], math.log(3)) == pytest.approx(0, abs=1e-12)  # log((1 - 1/4) / (1/4))
    assert slope(LOSSES["ipo"], 0.5) == 0
    assert slope(LOSSES["ipo"], 0.6) > 0
    assert slope(sigmoid_dpo, 20.0) < 0


def test_length_normalised_rewards_do_not_change_when_every_response_is_said_twice() -> None:
    policy, reference, tokens = torch.tensor([[-10.0, -20.0]]), torch.tensor([[-12.0, -18.0]]), torch.tensor([[4, 8]])
    once = rewards(policy, reference, 5.0, tokens)
    twice = rewards(2 * policy, 2 * reference, 5.0, 2 * tokens)
    assert once.margin.item() == twice.margin.item()
    assert rewards(2 * policy, 2 * reference, 5.0).margin.item() == 2 * rewards(policy, reference, 5.0).margin.item()


def test_nll_per_token_by_hand() -> None:
    assert nll_per_token(torch.tensor([-12.0, -3.0]), torch.tensor([4, 1])).tolist() == [3.0, 3.0]


def test_mean_nll_divides_by_the_step_and_not_by_what_it_is_given() -> None:
    assert mean_nll(torch.tensor([-1.0, -2.0, -3.0]), 12).item() == 0.5


@given(st.lists(nats, min_size=2, max_size=12), st.integers(1, 11))
def test_mean_nll_of_parts_adds_up_to_the_mean_of_the_whole(values: list[float], cut: int) -> None:
    tokens = torch.tensor(values, dtype=torch.float64)
    parts = mean_nll(tokens[:cut], len(values)) + mean_nll(tokens[cut:], len(values))
    assert parts.item() == pytest.approx(-sum(values) / len(values), abs=1e-9)
