"""What intervals and p-values promise, by simulation: 95 times in 100 the truth, and no more false alarms than allowed.

Scores are continuous unless said otherwise; the seeds are fixed. `pytest -m slow` runs more trials of more cases.
"""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import special

from limbeck.statistics import (
    bradley_terry,
    length_controlled_win_rate,
    mcnemar_exact,
    paired_difference,
    paired_permutation,
    sign_test,
    win_rate,
)

ROUNDING = 1e-12  # ends lie on the lattice of k / n


def length_controlled_coverage(n: int, rate: float, slope: float, trials: int, samples: int = 1) -> float:
    """How often the interval holds the rate at equal lengths, where the candidate writes more and length pays."""
    generator = np.random.default_rng([n, int(100 * rate), int(10 * slope) + 100])
    clusters = np.repeat(np.arange(n), samples).tolist() if samples > 1 else None
    covered = 0
    for trial in range(trials):
        lengths = 1000 + np.rint(generator.normal(20, 60, n * samples))
        won = generator.random(n * samples) < special.expit(
            special.logit(rate) + slope * np.tanh((lengths - 1000) / 60)
        )
        found = length_controlled_win_rate(
            [0.5] * len(won), won.tolist(), [1000] * len(won), lengths, seed=trial, clusters=clusters, resamples=500
        )
        covered += found.low <= rate <= found.high
    return covered / trials


def win_rate_coverage(n: int, rate: float, ties: float, trials: int) -> float:
    """How often the interval holds the win rate, where a share of the prompts ties."""
    generator = np.random.default_rng([n, int(100 * rate), int(100 * ties)])
    covered = 0
    for trial in range(trials):
        signs = generator.choice([1.0, 0.0, -1.0], n, p=[rate - ties / 2, ties, 1 - rate - ties / 2])
        found = win_rate([0.0] * n, signs.tolist(), seed=trial, resamples=1000)
        covered += found.low - ROUNDING <= rate <= found.high + ROUNDING
    return covered / trials


def difference_coverage(n: int, rate: float, gain: float, trials: int) -> float:
    """How often the interval holds the difference of two accuracies; half of the prompts are as hard for both."""
    generator = np.random.default_rng([n, int(100 * rate)])
    covered = 0
    for trial in range(trials):
        luck = generator.random((2, n))
        luck[1] = np.where(generator.random(n) < 0.5, luck[0], luck[1])
        found = paired_difference(luck[0] < rate, luck[1] < rate + gain, seed=trial, resamples=1000)
        covered += found.low - ROUNDING <= gain <= found.high + ROUNDING
    return covered / trials


def bradley_terry_coverage(n: int, strengths: list[float], trials: int) -> list[float]:
    """How often each interval holds the strength: scores with Gumbel noise follow the model exactly."""
    generator = np.random.default_rng(n)
    covered = np.zeros(len(strengths) - 1)
    for trial in range(trials):
        scores = generator.gumbel(size=(len(strengths), n)) + np.array(strengths)[:, None]
        columns = {str(at): column.tolist() for at, column in enumerate(scores)}
        found = bradley_terry(columns, baseline="0", seed=trial, resamples=500)
        covered += [s.low <= true <= s.high for s, true in zip(found.strengths[1:], strengths[1:], strict=True)]
    return (covered / trials).tolist()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_length_controlled_interval_covers_the_truth_95_times_in_100(rate: float) -> None:
    assert 0.92 <= length_controlled_coverage(200, rate, 1.0, trials=300) <= 0.98  # two standard errors are 2.5 points


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_interval_of_a_win_rate_with_ties_covers_the_truth_95_times_in_100(rate: float) -> None:
    assert 0.93 <= win_rate_coverage(200, rate, ties=0.1, trials=800) <= 0.97


def test_the_bradley_terry_intervals_cover_the_truth_95_times_in_100() -> None:
    for coverage in bradley_terry_coverage(200, [0.0, 0.5, -2.2], trials=200):
        assert 0.92 <= coverage <= 0.98  # two standard errors are 3 points


@pytest.mark.slow
@pytest.mark.parametrize("n", [200, 1000])
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_all_intervals_cover_the_truth_in_many_trials(n: int, rate: float) -> None:
    assert 0.93 <= win_rate_coverage(n, rate, ties=0.1, trials=2000) <= 0.97
    assert 0.93 <= win_rate_coverage(n, rate, ties=0.0, trials=2000) <= 0.97
    assert 0.93 <= difference_coverage(n, rate, 0.05, trials=2000) <= 0.97
    for slope in (-1.0, 0.0, 1.0):
        assert 0.93 <= length_controlled_coverage(n, rate, slope, trials=1200) <= 0.97
    assert 0.93 <= length_controlled_coverage(n, rate, 1.0, trials=800, samples=3) <= 0.97
    for coverage in bradley_terry_coverage(n, [0.0, float(special.logit(rate)), 0.3, -0.3], trials=1000):
        assert 0.93 <= coverage <= 0.97


def null_p_values(test: Callable[[np.ndarray, np.ndarray, int], float], n: int, trials: int) -> np.ndarray:
    """P-values of two models that solve the same prompts equally often, half of them together."""
    generator = np.random.default_rng(n)
    p_values = []
    for trial in range(trials):
        luck = generator.random((2, n))
        luck[1] = np.where(generator.random(n) < 0.5, luck[0], luck[1])
        p_values.append(test((luck[0] < 0.4).astype(float), (luck[1] < 0.4).astype(float), trial))
    return np.array(p_values)


TESTS: dict[str, Callable[[np.ndarray, np.ndarray, int], float]] = {
    "mcnemar": lambda a, b, _: mcnemar_exact(a, b).p_value,
    "sign": lambda a, b, _: sign_test(a, b).p_value,
    "permutation": lambda a, b, trial: paired_permutation(a, b, seed=trial, resamples=1000),
}


@pytest.mark.parametrize("name", TESTS)
def test_equal_models_raise_no_more_false_alarms_than_allowed(name: str) -> None:
    trials = 1500
    found = null_p_values(TESTS[name], 300, trials)
    for alpha in (0.01, 0.05, 0.1, 0.25, 0.5):
        noise = 3 * (alpha * (1 - alpha) / trials) ** 0.5
        rejected = (found <= alpha).mean()
        assert rejected <= alpha + noise
        assert rejected >= 0.5 * alpha - noise  # exact tests of counts reject less; not much less


def test_a_null_runs_intervals_leave_zero_out_5_times_in_100() -> None:
    generator = np.random.default_rng(9)
    outside = 0
    for trial in range(1000):
        a, b = generator.normal(size=(2, 200))
        found = win_rate(a.tolist(), b.tolist(), seed=trial, resamples=1000)
        outside += not found.low <= 0.5 <= found.high
    assert 0.03 <= outside / 1000 <= 0.07
