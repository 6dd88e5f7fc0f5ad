"""The length-controlled win rate: by hand, against the slow definition, symmetry, separation, and its bootstrap."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special

from limbeck.errors import InputError
from limbeck.statistics import length_controlled_win_rate, win_rate
from limbeck.statistics.length_controlled import fit_points
from limbeck.statistics.resampling import FloatArray


def precision(x: FloatArray) -> float:
    """Of the prior on the length coefficient: sd 2.5 where the mean of |x| is 1/2."""
    return float((2 * np.abs(x).mean() / 2.5) ** 2)


def example(n: int, seed: int, intercept: float, slope: float) -> tuple[list[float], list[float], list[int], list[int]]:
    """Scores and lengths of n prompts on which a longer candidate wins more often, with ties."""
    generator = np.random.default_rng(seed)
    before, after = generator.integers(20, 200, n), generator.integers(40, 260, n)
    x = np.tanh((after - before) / (after - before).std(ddof=1))
    won = generator.random(n) < special.expit(intercept + slope * x)
    tied = generator.random(n) < 0.1
    return [0.5] * n, np.where(tied, 0.5, won).tolist(), before.tolist(), after.tolist()


def test_two_lengths_by_hand() -> None:
    # Half of the rows 10 longer: 80 % won; half 10 shorter: 40 %. At equal lengths the log-odds are in the middle:
    # (ln 4 + ln 2/3) / 2 = 0.4904, so 62.02 %, where the raw rate is 60 %. The slope is (ln 4 - ln 2/3) / 2 / tanh 1.
    candidate = ([1.0] * 4 + [-1.0] + [1.0] * 2 + [-1.0] * 3) * 2000
    lengths = ([20] * 5 + [0] * 5) * 2000
    found = length_controlled_win_rate([0.0] * 20_000, candidate, [10] * 20_000, lengths, seed=0, resamples=100)
    assert found.estimate == pytest.approx(0.6202, abs=2e-4)
    assert found.length_coefficient == pytest.approx(0.8959 / math.tanh(1), abs=2e-3)
    assert found.length_sd == pytest.approx(10.0, abs=1e-3)


def test_it_is_the_raw_rate_where_length_tells_nothing() -> None:
    # As many points at +7 as at -7, and as many at +3 as at -3.
    baseline, candidate = [1.0] * 8, [2.0, 0.0, 2.0, 0.0, 1.0, 2.0, 1.0, 2.0]
    found = length_controlled_win_rate(baseline, candidate, [10] * 8, [17, 17, 3, 3, 13, 13, 7, 7], seed=0)
    assert found.estimate == pytest.approx(5 / 8, abs=1e-12)
    assert found.length_coefficient == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("longer", [0, 40])
def test_equal_length_differences_give_the_raw_rate_and_its_interval(longer: int) -> None:
    baseline, candidate, _, _ = example(400, 3, 0.4, 0.0)
    lengths, longer_lengths = [100] * 400, [100 + longer] * 400
    raw = win_rate(baseline, candidate, seed=1)
    found = length_controlled_win_rate(baseline, candidate, lengths, longer_lengths, seed=1)
    assert found.estimate == pytest.approx(raw.estimate, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((raw.low, raw.high), abs=0.003)
    assert (found.length_coefficient, found.length_sd) == (0.0, 0.0)


@pytest.mark.parametrize("ties", ["half", "loss"])
def test_it_minimises_the_penalised_loss(ties: str) -> None:
    baseline, candidate, before, after = example(250, 4, -0.3, 1.2)
    points = np.array([1.0 if c > 0.5 else 0.5 * (ties == "half") if c == 0.5 else 0.0 for c in candidate])
    differences = np.array(after) - np.array(before)
    x = np.tanh(differences / differences.std(ddof=1))

    def loss(weights: FloatArray) -> float:
        log_odds = weights[0] + weights[1] * x
        return float((np.logaddexp(0, log_odds) - points * log_odds).sum() + precision(x) / 2 * weights[1] ** 2)

    slow = optimize.minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11}).x
    found = length_controlled_win_rate(
        baseline, candidate, before, after, seed=0, ties="half" if ties == "half" else "loss", resamples=10
    )
    assert found.estimate == pytest.approx(special.expit(slow[0]), abs=1e-6)
    assert found.length_coefficient == pytest.approx(slow[1], abs=1e-5)


row = st.tuples(st.one_of(st.none(), st.integers(0, 3)), st.integers(0, 3), st.integers(0, 60), st.integers(0, 60))


@given(rows=st.lists(row, min_size=1, max_size=60).filter(lambda rows: any(r[0] is not None for r in rows)))
@settings(max_examples=60, deadline=None)
def test_swapping_the_sides_turns_r_into_one_minus_r(rows: list[tuple[int | None, int, int, int]]) -> None:
    a, b, short, long = (list(column) for column in zip(*rows, strict=True))
    forward = length_controlled_win_rate(a, b, short, long, seed=5, resamples=100)
    backward = length_controlled_win_rate(b, a, long, short, seed=5, resamples=100)
    assert (backward.estimate, backward.low, backward.high) == pytest.approx(
        (1 - forward.estimate, 1 - forward.high, 1 - forward.low), abs=1e-9
    )
    assert backward.length_coefficient == pytest.approx(forward.length_coefficient, abs=1e-6)
    assert forward.unscored == sum(value is None for value in a)


def test_wins_that_length_alone_explains_are_half_and_finite() -> None:
    generator = np.random.default_rng(0)
    differences = np.concatenate([generator.integers(1, 100, 100), -generator.integers(1, 100, 100)])
    found = length_controlled_win_rate(
        [0.0] * 200, np.sign(differences).tolist(), [100] * 200, 100 + differences, seed=0
    )
    assert found.estimate == pytest.approx(0.5, abs=0.1)
    assert 5 < found.length_coefficient < 100
    assert 0 < found.low < found.estimate < found.high < 1


def test_one_runaway_length_does_not_hide_what_the_others_tell() -> None:
    baseline, candidate, before, after = example(400, 6, 0.0, 3.0)
    after[0], candidate[0] = 100_000, 1.0
    found = length_controlled_win_rate(baseline, candidate, before, after, seed=0)
    without = length_controlled_win_rate(baseline[1:], candidate[1:], before[1:], after[1:], seed=0)
    assert found.estimate == pytest.approx(without.estimate, abs=0.05)
    assert found.high - found.low == pytest.approx(without.high - without.low, rel=0.2)


def test_of_a_side_that_always_wins_the_rows_on_which_it_is_not_the_longer_one_bound_the_rate() -> None:
    # Differences 5, 4 ... -3: four rows not longer, all won, so Wilson's bound is 4 / (4 + 1.96 squared).
    found = length_controlled_win_rate([0.0] * 9, [1.0] * 9, list(range(9)), [5] * 9, seed=0)
    assert (found.estimate, found.high, found.length_coefficient) == (1.0, pytest.approx(1.0), 0.0)
    assert found.low == pytest.approx(4 / (4 + 1.959964**2), abs=1e-6)
    # Of two samples a prompt, the prompts count: differences 5, 4 and -2, -3.
    lengths = [0, 1, 7, 8]
    found = length_controlled_win_rate([0.0] * 4, [1.0] * 4, lengths, [5] * 4, seed=0, clusters="aabb")
    assert found.low == pytest.approx(1 / (1 + 1.959964**2), abs=1e-6)


def test_of_a_side_that_always_wins_and_is_always_longer_nothing_is_known_at_equal_lengths() -> None:
    found = length_controlled_win_rate([0.0] * 50, [1.0] * 50, [10] * 50, list(range(11, 61)), seed=0)
    assert (found.estimate, found.low, found.high) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize("shorter", [0, 5])
def test_of_a_side_that_always_wins_and_is_never_longer_the_interval_is_the_win_rates(shorter: int) -> None:
    lengths = [20 - shorter * (at % 2) for at in range(12)]
    raw = win_rate([0.0] * 12, [1.0] * 12, seed=1)
    found = length_controlled_win_rate([0.0] * 12, [1.0] * 12, [20] * 12, lengths, seed=1)
    assert (found.estimate, found.low, found.high) == pytest.approx((raw.estimate, raw.low, raw.high))


@pytest.mark.parametrize("samples", [1, 4])
def test_the_interval_is_that_of_the_slow_bootstrap_over_prompts(samples: int) -> None:
    n, resamples = 600, 1500
    baseline, candidate, before, after = example(n * samples, 7, 0.5, 1.5)
    differences = np.array(after) - np.array(before)
    x = np.tanh(differences / differences.std(ddof=1))
    points = (np.array(candidate) > 0.5) + 0.5 * (np.array(candidate) == 0.5)
    prompts = np.arange(n * samples).reshape(n, samples)
    drawn = prompts[np.random.default_rng(1).integers(0, n, (resamples, n))].reshape(resamples, -1)
    rates = special.expit([fit_points(x[rows], points[rows]).intercept for rows in drawn])
    clusters = np.repeat(np.arange(n), samples).tolist() if samples > 1 else None
    found = length_controlled_win_rate(baseline, candidate, before, after, clusters=clusters, seed=0)
    assert (found.low, found.high) == pytest.approx(np.quantile(rates, [0.025, 0.975]), abs=0.2 * rates.std())
    assert found.num_prompts == n


def test_strata_hold_what_differs_between_them() -> None:
    baseline, candidate = [0.5] * 200, [1.0] * 100 + [0.0] * 100
    strata = ["easy"] * 100 + ["hard"] * 100
    lengths = [100, 110] * 100
    fixed = length_controlled_win_rate(baseline, candidate, [105] * 200, lengths, strata=strata, seed=0)
    free = length_controlled_win_rate(baseline, candidate, [105] * 200, lengths, seed=0)
    assert fixed.high - fixed.low < 0.02
    assert free.high - free.low > 0.1


def test_lengths_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="candidate must have one length a row: 1 lengths for 2 rows"):
        length_controlled_win_rate([0.0, 1.0], [1.0, 0.0], [1, 2], [1], seed=0)
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="Row 1 has the baseline length"):
            length_controlled_win_rate([0.0, 1.0], [1.0, 0.0], [1, wrong], [1, 2], seed=0)
    with pytest.raises(InputError, match="None of 1 rows"):
        length_controlled_win_rate([None], [1.0], [1], [1], seed=0)
    with pytest.raises(InputError, match="one stratum"):
        length_controlled_win_rate([0.0] * 2, [1.0] * 2, [1] * 2, [2] * 2, seed=0, clusters="aa", strata="xy")


@pytest.mark.parametrize("samples", [1, 4])
def test_a_hundred_thousand_comparisons_take_about_a_second_at_most(samples: int) -> None:
    baseline, candidate, before, after = example(100_000, 0, 0.2, 0.7)
    clusters = np.repeat(np.arange(100_000 // samples), samples).tolist() if samples > 1 else None
    times = []
    for _ in range(3):  # the best of three: linear algebra spins on a busy machine
        start = time.process_time()
        length_controlled_win_rate(baseline, candidate, before, after, clusters=clusters, seed=0)
        times.append(time.process_time() - start)
    assert min(times) < 1.5  # 0.2 s on one idle core
