"""Prompts with several rows: what the tests, intervals and spreads make of samples that are alike."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from limbeck.errors import InputError
from limbeck.statistics import (
    clustered_proportion,
    mcnemar_exact,
    paired_difference,
    paired_permutation,
    proportion,
    sd_by_prompt,
    sign_test,
)
from limbeck.statistics.intervals import wilson


def test_the_sign_test_counts_prompts_by_the_sign_of_their_sum() -> None:
    # Sums: p 1 + 1 - 1, q -2, r 1 - 1, s 3: two up, one down, one equal; 2 (C(3,0) + C(3,1)) / 2^3 = 1.
    found = sign_test([0] * 7, [1, 1, -1, -2, 1, -1, 3], clusters=list("pppqrrs"))
    assert tuple(found) == (1.0, 2, 1, 1)
    assert sign_test([0] * 7, [1, 1, -1, -2, 1, -1, 3]).higher == 4


def test_a_sum_that_only_rounding_keeps_from_zero_is_equal() -> None:
    a, b = [0.0, 0.0, 0.3], [0.1, 0.2, 0.0]  # 0.1 + 0.2 - 0.3 is 5.6e-17
    assert sign_test(a, b, clusters="ppp").equal == 1
    assert paired_permutation(a, b, seed=0, clusters="ppp") == 1.0


@given(rows=st.lists(st.tuples(st.integers(0, 5), st.integers(-3, 3)), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_a_clustered_permutation_test_counts_every_flip_of_whole_prompts(rows: list[tuple[int, int]]) -> None:
    prompts, differences = (list(column) for column in zip(*rows, strict=True))
    names = sorted(set(prompts))
    sums = [sum(d for p, d in rows if p == name) for name in names]
    patterns = list(product((-1, 1), repeat=len(sums)))
    extreme = sum(abs(sum(s * d for s, d in zip(signs, sums, strict=True))) >= abs(sum(sums)) for signs in patterns)
    found = paired_permutation([0] * len(rows), differences, seed=0, clusters=prompts)
    assert found == pytest.approx(extreme / len(patterns))


def test_mcnemar_refuses_prompts_with_several_rows_and_takes_those_with_one() -> None:
    a, b = [1, 0, 0, 1], [0, 1, 1, 1]
    with pytest.raises(InputError, match="4 rows belong to 2 prompts; use paired_permutation"):
        mcnemar_exact(a, b, clusters="ppqq")
    assert mcnemar_exact(a, b, clusters="pqrs") == mcnemar_exact(a, b)


@given(rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=50), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_one_row_a_prompt_changes_nothing_at_all(rows: list[tuple[int, int]], seed: int) -> None:
    a, b = (list(column) for column in zip(*rows, strict=True))
    names = [f"p{place}" for place in range(len(rows))]
    assert sign_test(a, b, clusters=names) == sign_test(a, b)
    assert paired_permutation(a, b, seed=seed, clusters=names) == paired_permutation(a, b, seed=seed)
    assert paired_difference(a, b, seed=seed, clusters=names) == paired_difference(a, b, seed=seed)
    share, plain = clustered_proportion(b, names), proportion(sum(b), len(b))
    assert tuple(share)[:3] == tuple(plain)[:3]
    assert (share.num_prompts, share.num_rows, share.effective_rows) == (len(b), len(b), len(b))
    assert sd_by_prompt(a, b, names) == sd_by_prompt(a, b)
    assert sd_by_prompt(a, b) == pytest.approx(np.std(np.subtract(b, a), ddof=1))


def test_samples_that_all_agree_are_worth_one_row_a_prompt() -> None:
    outcomes = np.repeat(np.random.default_rng(0).random(300) < 0.7, 5)
    found = clustered_proportion(outcomes, np.repeat(np.arange(300), 5).tolist())
    assert found.effective_rows == pytest.approx(300, rel=0.02)
    alone = proportion(int(outcomes.sum() / 5), 300)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=0.001)


def test_the_design_effect_by_hand() -> None:
    # Prompts of 2 rows: sums 2, 0, 1, 2 of 8 rows, share 5/8; residuals 3/4, -5/4, -1/4, 3/4, squares add to 2.75.
    # Variance 4/3 x 2.75 / 64 = 0.0573; of independent rows 15/64 / 7 = 0.0335; Student's quantiles 2.3646 and 3.1824.
    found = clustered_proportion([1, 1, 0, 0, 1, 0, 1, 1], clusters=[1, 1, 2, 2, 3, 3, 4, 4])
    assert found.effective_rows == pytest.approx(8 * 0.033482 / 0.057292 * (2.36462 / 3.18245) ** 2, rel=1e-4)
    expected = wilson(5 / 8, found.effective_rows, 0.95)
    assert (found.low, found.high) == (expected.low, expected.high)


def test_shares_of_nothing_and_of_everything_keep_a_width_by_prompts() -> None:
    for value in (0.0, 1.0):
        found = clustered_proportion([value] * 40, clusters=[row // 4 for row in range(40)])
        plain = proportion(int(10 * value), 10)
        assert (found.low, found.high) == (plain.low, plain.high)


def test_rows_that_differ_inside_a_prompt_are_worth_no_more_than_themselves() -> None:
    found = clustered_proportion([0, 1] * 50, clusters=[row // 2 for row in range(100)])
    assert found.effective_rows == 100


def test_outcomes_that_are_no_shares_are_refused() -> None:
    with pytest.raises(InputError, match=r"Row 1 has the outcome 1\.5"):
        clustered_proportion([0.0, 1.5])
    with pytest.raises(InputError, match="Row 0 has the outcome nan"):
        clustered_proportion([float("nan")])
    with pytest.raises(InputError, match="at least one outcome"):
        clustered_proportion([])


def test_the_spread_by_prompt_gives_the_standard_error_of_the_bootstrap() -> None:
    generator = np.random.default_rng(2)
    prompts = np.repeat(np.arange(400), generator.integers(1, 6, 400))
    rows = np.rint(generator.normal(0, 1, 400)[prompts] + generator.normal(0, 0.5, len(prompts)))
    sd = sd_by_prompt(np.zeros(len(rows)), rows, prompts.tolist())
    found = paired_difference(np.zeros(len(rows)), rows, clusters=prompts.tolist(), seed=0)
    assert sd is not None
    assert sd / 400**0.5 == pytest.approx((found.high - found.low) / (2 * 1.96), rel=0.05)
    assert sd_by_prompt([0, 0], [1, 2], clusters="pp") is None


def test_equal_models_are_told_apart_by_rows_too_often_and_by_prompts_as_often_as_allowed() -> None:
    generator = np.random.default_rng(3)
    prompts, trials = np.repeat(np.arange(60), 8), 400
    by_row, by_prompt = 0, np.zeros(2)
    for trial in range(trials):
        leaning = generator.normal(0, 1.5, 60)[prompts]  # each prompt suits one of the two models: not the other
        a, b = np.zeros(480), np.sign(leaning + generator.normal(0, 1, 480))
        by_row += sign_test(a, b).p_value <= 0.05
        p_values = (
            sign_test(a, b, clusters=prompts.tolist()).p_value,
            paired_permutation(a, b, clusters=prompts.tolist(), seed=trial, resamples=1000),
        )
        by_prompt += np.array(p_values) <= 0.05
    assert by_row / trials > 0.25
    assert (by_prompt / trials < 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5).all()
    assert by_prompt[1] / trials > 0.02  # and not by never rejecting


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_clustered_interval_of_an_accuracy_covers_the_truth_95_times_in_100(rate: float) -> None:
    generator = np.random.default_rng(int(10 * rate))
    prompts, trials = np.repeat(np.arange(200), 4).tolist(), 1200
    scale = float(special.ndtri(rate)) * 2**0.5  # half of the variance is the prompt's
    clustered = plain = 0
    for _ in range(trials):
        luck = generator.normal(size=(200, 1)) + generator.normal(size=(200, 4))
        solved = (luck < scale).reshape(-1)
        found = clustered_proportion(solved, prompts)
        clustered += found.low <= rate <= found.high
        naive = proportion(int(solved.sum()), 800)
        plain += naive.low <= rate <= naive.high
    assert 0.93 <= clustered / trials <= 0.97
    assert plain / trials < 0.9
