"""The planner: by hand, there and back, and by simulating what it promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.statistics import (
    minimum_detectable_win_rate,
    plan_detectable,
    plan_prompts,
    prompts_for_win_rate,
    prompts_needed,
    sign_test,
)
from limbeck.statistics.planning import DISCORDANT_RATES, TIE_RATES


def test_a_win_rate_without_ties_by_hand() -> None:
    # 53 % against 50 %: (1.95996 / 2 + 0.84162 sqrt(1/4 - .0009))^2 / .0009 = 2177.9, as for one share.
    assert prompts_for_win_rate(0.03, tie_rate=0.0) == 2178
    found = minimum_detectable_win_rate(2178, tie_rate=0.0)
    assert found == pytest.approx(0.03, abs=1e-5)


def test_ties_carry_nothing_so_fewer_decided_prompts_show_a_smaller_win_rate() -> None:
    rates = [minimum_detectable_win_rate(500, tie_rate=ties) for ties in (0.0, 0.3, 0.6)]
    assert all(rate is not None for rate in rates)
    assert rates == sorted(rates, key=lambda rate: -(rate or 0.0))
    assert minimum_detectable_win_rate(500, tie_rate=1.0) is None


def test_a_true_win_rate_of_the_planned_size_is_found_about_80_times_in_100() -> None:
    n, ties = prompts_for_win_rate(0.06, tie_rate=0.3), 0.3
    shares = [0.35 + 0.06, ties, 0.35 - 0.06]
    found = 0
    for wins, _, losses in np.random.default_rng(0).multinomial(n, shares, size=1000):
        signs = np.repeat([1, -1, 0], [wins, losses, n - wins - losses])
        found += sign_test(np.zeros(n), signs).p_value < 0.05
    assert 0.76 <= found / 1000 <= 0.84


@given(points=st.floats(0.01, 0.2), arms=st.integers(1, 8), power=st.floats(0.5, 0.95), win=st.booleans())
@settings(max_examples=50, deadline=None)
def test_what_the_planned_prompts_can_show_is_what_was_asked(points: float, arms: int, power: float, win: bool) -> None:
    measure = "win_rate" if win else "accuracy"
    for plan in plan_prompts(measure, points, num_arms=arms, power=power):
        if plan.num_prompts is None:
            assert plan.rate < points or 1 - plan.rate < 2 * points
            continue
        (back,) = plan_detectable(measure, plan.num_prompts, rates=[plan.rate], num_arms=arms, power=power)
        assert back.alpha_per_arm == plan.alpha_per_arm == 0.05 / arms
        if back.difference is not None:  # None where the difference is nearly all that is discordant
            assert back.difference <= points * (1 + 1e-9)
            assert back.difference == pytest.approx(points, rel=0.1)


def test_a_plan_of_accuracies_has_a_row_a_rate_and_says_where_the_difference_cannot_be() -> None:
    plans = plan_prompts("accuracy", 0.1, num_arms=3)
    assert [plan.rate for plan in plans] == list(DISCORDANT_RATES)
    assert plans[0].num_prompts is None  # 10 points need at least 10 % discordant prompts
    assert plans[2].num_prompts == prompts_needed(0.1, discordant_rate=0.2, alpha=0.05 / 3)
    assert [plan.rate for plan in plan_detectable("win_rate", 100)] == list(TIE_RATES)
    assert plan_prompts("accuracy", -0.1, num_arms=3)[2].num_prompts == plans[2].num_prompts


def test_more_arms_need_more_prompts() -> None:
    one, four = (plan_prompts("win_rate", 0.03, rates=[0.0], num_arms=arms)[0].num_prompts for arms in (1, 4))
    assert one is not None
    assert four is not None
    # (z of 0.05 / 8 + z of 0.8)^2 over (z of 0.05 / 2 + z of 0.8)^2 = (2.4977 + 0.8416)^2 / 7.849
    assert four / one == pytest.approx(11.151 / 7.849, rel=0.01)


def test_plans_that_cannot_be_are_refused() -> None:
    for points in (0.0, 3, float("nan")):
        with pytest.raises(InputError, match=r"0\.03 is three points"):
            plan_prompts("accuracy", points)
    with pytest.raises(InputError, match="num_arms"):
        plan_detectable("accuracy", 100, num_arms=0)
    with pytest.raises(InputError, match="tie_rate"):
        plan_prompts("win_rate", 0.03, rates=[1.2])
    with pytest.raises(InputError, match="at least one rate"):
        plan_prompts("win_rate", 0.03, rates=[])
