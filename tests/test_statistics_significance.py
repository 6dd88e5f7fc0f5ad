"""The tests of no difference, against scipy, hand-made cases and their definition."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from limbeck.errors import InputError
from limbeck.statistics import holm, mcnemar_exact, paired_permutation, sign_test

outcomes = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=80)


@given(rows=outcomes)
@settings(max_examples=60, deadline=None)
def test_mcnemar_is_a_binomial_test_of_the_discordant_prompts(rows: list[tuple[int, int]]) -> None:
    a, b = zip(*rows, strict=True)
    only_a, only_b = rows.count((1, 0)), rows.count((0, 1))
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    found = mcnemar_exact(a, b)
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p_value == pytest.approx(expected, abs=1e-12)
    assert mcnemar_exact(b, a).p_value == found.p_value


def test_mcnemar_by_hand() -> None:
    # One against five: 2 (C(6,0) + C(6,1)) / 2^6 = 14 / 64.
    found = mcnemar_exact([1, 0, 0, 0, 0, 0, 1, 0], [0, 1, 1, 1, 1, 1, 1, 0])
    assert tuple(found) == pytest.approx((14 / 64, 1, 5))


def test_mcnemar_refuses_scores_that_are_not_outcomes() -> None:
    with pytest.raises(InputError, match="0 or 1"):
        mcnemar_exact([0.5, 1], [1, 0])


def test_the_sign_test_leaves_equal_pairs_out() -> None:
    found = sign_test([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 3.0, 4.0, 4.0, 6.0])
    assert tuple(found) == pytest.approx((2 / 16, 4, 0, 1))
    assert sign_test([1.0, 1.0], [1.0, 1.0]).p_value == 1.0


@given(differences=st.lists(st.integers(-3, 3), min_size=1, max_size=9))
@settings(max_examples=40, deadline=None)
def test_a_small_permutation_test_counts_every_sign_pattern(differences: list[int]) -> None:
    observed = abs(sum(differences))
    patterns = list(product((-1, 1), repeat=len(differences)))
    extreme = sum(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= observed for signs in patterns)
    found = paired_permutation([0] * len(differences), differences, seed=0)
    assert found == pytest.approx(extreme / len(patterns))


@pytest.mark.parametrize("kind", ["binary", "continuous"])
def test_a_large_permutation_test_agrees_with_scipy(kind: str) -> None:
    a, b = np.random.default_rng(8).normal(size=(2, 300))
    b += 0.15
    if kind == "binary":
        a, b = (a > 0).astype(float), (b > 0).astype(float)
    expected = stats.permutation_test(
        (a, b),
        lambda x, y, axis: (y - x).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=5000,
        batch=1000,
        rng=np.random.default_rng(0),
    )
    assert paired_permutation(a, b, seed=0, resamples=20_000) == pytest.approx(expected.pvalue, abs=0.02)


def test_a_permutation_p_value_is_never_zero_and_is_one_without_a_difference() -> None:
    assert paired_permutation([0.0] * 400, [1.0] * 400, seed=0, resamples=999) == 1 / 1000
    assert paired_permutation([1.0] * 400, [1.0] * 400, seed=0) == 1.0


def test_the_permutation_test_rejects_a_true_null_5_times_in_100() -> None:
    generator = np.random.default_rng(2)
    rejected = sum(
        paired_permutation(*generator.normal(size=(2, 60)), seed=trial, resamples=400) <= 0.05 for trial in range(600)
    )
    assert 0.03 <= rejected / 600 <= 0.07


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .03 .04, times 4 3 2 1 = .04 .06 .06 .04; the last may not fall below the one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx((0.06, 0.04, 0.06, 0.06))
    assert holm([0.7, 0.6]) == (1.0, 1.0)
    assert holm([0.03]) == (0.03,)


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_holm_lies_between_the_raw_values_and_bonferroni_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, value in zip(p_values, adjusted, strict=True):
        assert raw <= value <= min(1.0, len(p_values) * raw) + 1e-12
    by_raw = [value for _, value in sorted(zip(p_values, adjusted, strict=True))]
    assert by_raw == sorted(by_raw)


def test_holm_refuses_what_is_no_probability() -> None:
    for wrong in (1.2, -0.1, float("nan")):
        with pytest.raises(InputError):
            holm([0.5, wrong])


def test_no_data_is_an_error_in_every_test() -> None:
    for test in (mcnemar_exact, sign_test):
        with pytest.raises(InputError):
            test([], [])
    with pytest.raises(InputError):
        paired_permutation([], [], seed=0)
