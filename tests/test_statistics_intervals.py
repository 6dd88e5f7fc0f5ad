"""Wilson's interval and the paired bootstrap, against scipy, the slow definition, cases by hand, and their coverage."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from limbeck.errors import InputError
from limbeck.statistics import paired_difference, proportion


@given(n=st.integers(1, 3000), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
@settings(max_examples=60, deadline=None)
def test_proportion_is_scipys_wilson_interval(n: int, share: float, confidence: float) -> None:
    successes = round(share * n)
    expected = stats.binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    interval = proportion(successes, n, confidence)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0.0 <= interval.low <= interval.estimate <= interval.high <= 1.0


def test_proportion_of_ten_in_ten_keeps_a_width() -> None:
    # By hand: z^2 = 3.8415; the low end at n of n is 1 / (1 + z^2 / n) = 1 / 1.38415.
    interval = proportion(10, 10)
    assert interval.low == pytest.approx(1 / 1.3841459, abs=1e-6)
    assert (interval.estimate, interval.high, interval.n) == (1.0, 1.0, 10)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_that_cannot_be_is_an_error(successes: int, n: int) -> None:
    with pytest.raises(InputError):
        proportion(successes, n)


@pytest.mark.parametrize("n", [200, 700])
@pytest.mark.parametrize("true_share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_wilson_covers_the_truth_95_times_in_100(n: int, true_share: float) -> None:
    # No simulation is needed: the coverage is a sum over the n + 1 possible outcomes.
    outcomes = [proportion(successes, n) for successes in range(n + 1)]
    covered = np.array([interval.low <= true_share <= interval.high for interval in outcomes])
    coverage = stats.binom.pmf(np.arange(n + 1), n, true_share) @ covered
    assert 0.93 <= coverage <= 0.97


@pytest.mark.parametrize("n", [200, 500])
@pytest.mark.parametrize(("solved_a", "solved_b"), [(0.1, 0.15), (0.5, 0.5), (0.3, 0.7), (0.9, 0.85)])
def test_the_paired_interval_covers_the_truth_95_times_in_100(n: int, solved_a: float, solved_b: float) -> None:
    generator = np.random.default_rng(n)
    truth, rounding, trials, covered = solved_b - solved_a, 1e-12, 2500, 0
    for trial in range(trials):
        luck = generator.random((2, n))
        luck[1] = np.where(generator.random(n) < 0.5, luck[0], luck[1])  # half of the prompts are as hard for both
        interval = paired_difference(luck[0] < solved_a, luck[1] < solved_b, seed=trial, resamples=1000)
        covered += interval.low - rounding <= truth <= interval.high + rounding  # ends lie on the lattice of k / n
    assert 0.93 <= covered / trials <= 0.97


def test_the_clustered_interval_covers_the_truth_where_the_row_interval_does_not() -> None:
    generator = np.random.default_rng(5)
    prompts = np.repeat(np.arange(200), 4)
    covered_by_prompt = covered_by_row = 0
    for trial in range(400):
        difference = generator.normal(0.2, 1, 200)[prompts] + generator.normal(0, 0.3, 800)
        rounded = np.round(difference, 1)
        zeros = np.zeros(800)
        by_prompt = paired_difference(zeros, rounded, clusters=prompts.tolist(), seed=trial, resamples=500)
        by_row = paired_difference(zeros, rounded, seed=trial, resamples=500)
        covered_by_prompt += by_prompt.low <= 0.2 <= by_prompt.high
        covered_by_row += by_row.low <= 0.2 <= by_row.high
    assert 0.92 <= covered_by_prompt / 400 <= 0.98
    assert covered_by_row / 400 < 0.8


@pytest.mark.parametrize("kind", ["binary", "continuous", "outlier"])
def test_the_paired_interval_is_scipys_percentile_bootstrap(kind: str) -> None:
    generator = np.random.default_rng(3)
    a, b = generator.normal(size=(2, 400))
    if kind == "binary":
        a, b = (a > 0).astype(float), (b > 0.2).astype(float)
    if kind == "outlier":
        b[7] = 300.0  # all other values share a few bins: the noise inside them must be kept
    expected = stats.bootstrap(
        (b - a,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1), batch=2000
    )
    found = paired_difference(a, b, seed=1, resamples=20_000)
    standard_error = expected.standard_error
    assert found.estimate == pytest.approx((b - a).mean())
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.08 * standard_error)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.08 * standard_error)


def test_ragged_clusters_in_strata_equal_the_slow_bootstrap_over_prompts() -> None:
    generator = np.random.default_rng(11)
    sizes = generator.integers(1, 6, 120)
    prompts = np.repeat(np.arange(120), sizes)
    strata = np.where(prompts < 40, "hard", "easy")
    rows = generator.integers(-1, 2, len(prompts)) + np.where(prompts < 40, 2.0, 0.0)
    slow = []
    members = [rows[prompts == prompt] for prompt in range(120)]
    for _ in range(4000):
        drawn = [*generator.integers(0, 40, 40), *generator.integers(40, 120, 80)]
        slow.append(np.concatenate([members[prompt] for prompt in drawn]).mean())
    found = paired_difference(
        np.zeros(len(rows)), rows, clusters=prompts.tolist(), strata=strata.tolist(), seed=2, resamples=20_000
    )
    assert (found.num_prompts, found.num_rows) == (120, len(rows))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.15 * np.std(slow))


def test_strata_remove_the_spread_between_them() -> None:
    a, b = [0.0] * 100, [0.0] * 50 + [1.0] * 50
    strata = ["never"] * 50 + ["always"] * 50
    stratified = paired_difference(a, b, strata=strata, seed=0)
    assert (stratified.low, stratified.high) == (0.5, 0.5)
    plain = paired_difference(a, b, seed=0)
    assert plain.low == pytest.approx(0.4, abs=0.011)


scores = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=40
)


@given(rows=scores, seed=st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_swapping_the_models_mirrors_the_interval(rows: list[tuple[float, float]], seed: int) -> None:
    a, b = zip(*rows, strict=True)
    forward = paired_difference(a, b, seed=seed, resamples=200)
    backward = paired_difference(b, a, seed=seed, resamples=200)
    assert (backward.estimate, backward.low, backward.high) == pytest.approx(
        (-forward.estimate, -forward.high, -forward.low), abs=1e-12
    )


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 300))
    assert paired_difference(a, b, seed=4) == paired_difference(a, b, seed=4)
    assert paired_difference(a, b, seed=4) != paired_difference(a, b, seed=5)


def test_one_cluster_a_row_is_no_clustering() -> None:
    a, b = [0, 1, 1, 0, 1], [1, 1, 0, 1, 1]
    assert paired_difference(a, b, clusters=list("vwxyz"), seed=1) == paired_difference(a, b, seed=1)


def test_data_that_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="no data"):
        paired_difference([], [], seed=0)
    with pytest.raises(InputError, match="3 and 2"):
        paired_difference([1, 2, 3], [1, 2], seed=0)
    with pytest.raises(InputError, match="Row 1 of the second"):
        paired_difference([1.0, 2.0], [1.0, float("nan")], seed=0)
    with pytest.raises(InputError, match="one label a row"):
        paired_difference([1, 2], [1, 2], clusters=["x"], seed=0)
    with pytest.raises(InputError, match="one stratum"):
        paired_difference([1, 2], [1, 2], clusters=["x", "x"], strata=["s", "t"], seed=0)
    with pytest.raises(InputError, match="confidence"):
        paired_difference([1, 2], [1, 2], seed=0, confidence=95)


@pytest.mark.parametrize("kind", ["binary", "continuous"])
def test_a_hundred_thousand_comparisons_take_less_than_a_second(kind: str) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 100_000))
    if kind == "binary":
        a, b = (a > 0).astype(float), (b > 0).astype(float)
    start = time.process_time()  # not the wall clock: other work on the machine is not what is measured
    paired_difference(a, b, seed=0)
    assert time.process_time() - start < 1.0
