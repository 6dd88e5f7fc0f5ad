"""Power: by hand, by inversion, and by simulating the test that the formulas speak of."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.statistics import mcnemar_exact, minimum_detectable_difference, prompts_needed


def test_the_textbook_case_by_hand() -> None:
    # (1.95996 + 0.84162)^2 = 7.8489; half a standard deviation takes 7.8489 / 0.25 = 31.4 prompts.
    assert prompts_needed(0.5, sd=1.0) == 32
    assert minimum_detectable_difference(784, sd=2.0) == pytest.approx(2.80158 * 2 / 28, abs=1e-5)


def test_connors_formula_by_hand() -> None:
    # (1.95996 sqrt(.25) + .84162 sqrt(.25 - .01))^2 / .01 = (0.97998 + 0.41231)^2 / .01 = 193.8
    assert prompts_needed(0.1, discordant_rate=0.25) == 194


@given(n=st.integers(60, 100_000), rate=st.floats(0.05, 1.0), power=st.floats(0.5, 0.99), alpha=st.floats(0.001, 0.2))
@settings(max_examples=100, deadline=None)
def test_prompts_needed_inverts_the_minimum_detectable_difference(
    n: int, rate: float, power: float, alpha: float
) -> None:
    by_rate = minimum_detectable_difference(n, discordant_rate=rate, power=power, alpha=alpha)
    if by_rate is not None:
        assert abs(prompts_needed(by_rate, discordant_rate=rate, power=power, alpha=alpha) - n) <= 1
    by_sd = minimum_detectable_difference(n, sd=rate, power=power, alpha=alpha)
    assert by_sd is not None
    assert abs(prompts_needed(-by_sd, sd=rate, power=power, alpha=alpha) - n) <= 1


def test_a_true_difference_of_that_size_is_found_about_80_times_in_100() -> None:
    n, rate = 600, 0.3
    difference = minimum_detectable_difference(n, discordant_rate=rate)
    assert difference is not None
    generator = np.random.default_rng(0)
    shares = [(rate - difference) / 2, (rate + difference) / 2, 1 - rate]
    found = 0
    for only_a, only_b, _ in generator.multinomial(n, shares, size=600):
        a, b = np.zeros(n), np.zeros(n)
        a[:only_a], b[only_a : only_a + only_b] = 1, 1
        found += mcnemar_exact(a, b).p_value < 0.05
    assert 0.74 <= found / 600 <= 0.84  # the exact test is a little conservative


def test_nothing_is_detectable_where_nothing_varies_or_too_little_does() -> None:
    assert minimum_detectable_difference(500, discordant_rate=0.0) is None
    assert minimum_detectable_difference(500, sd=0.0) is None
    assert minimum_detectable_difference(20, discordant_rate=0.05) is None
    assert minimum_detectable_difference(1, discordant_rate=1.0) is None


def test_questions_without_an_answer_are_refused() -> None:
    with pytest.raises(InputError, match="either"):
        minimum_detectable_difference(10)
    with pytest.raises(InputError, match="either"):
        prompts_needed(0.1, discordant_rate=0.2, sd=0.3)
    with pytest.raises(InputError, match="discordant"):
        prompts_needed(0.3, discordant_rate=0.2)
    with pytest.raises(InputError):
        prompts_needed(0.0, sd=1.0)
    with pytest.raises(InputError):
        minimum_detectable_difference(0, sd=1.0)
