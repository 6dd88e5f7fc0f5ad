"""The win rate: hand-made counts, symmetry, unscored rows, and refusals."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from limbeck.errors import InputError
from limbeck.statistics import Ties, paired_difference, win_rate

score = st.one_of(st.none(), st.integers(0, 4).map(float))
both = st.lists(st.tuples(score, score), min_size=1, max_size=40).filter(
    lambda rows: any(a is not None and b is not None for a, b in rows)
)


def test_counts_and_estimate_by_hand() -> None:
    baseline = [1.0, 2.0, 3.0, 4.0, None, 1.0, None]
    candidate = [2.0, 3.0, 3.0, 1.0, 9.0, None, None]
    found = win_rate(baseline, candidate, seed=0)
    assert (found.wins, found.ties, found.losses, found.unscored, found.num_prompts) == (2, 1, 1, 3, 4)
    assert found.estimate == 2.5 / 4
    assert win_rate(baseline, candidate, ties="loss", seed=0).estimate == 2 / 4


@given(rows=both, seed=st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_swapping_the_sides_turns_r_into_one_minus_r(rows: list[tuple[float | None, float | None]], seed: int) -> None:
    baseline, candidate = zip(*rows, strict=True)
    forward = win_rate(baseline, candidate, seed=seed, resamples=200)
    backward = win_rate(candidate, baseline, seed=seed, resamples=200)
    assert (backward.wins, backward.ties, backward.unscored) == (forward.losses, forward.ties, forward.unscored)
    assert (backward.estimate, backward.low, backward.high) == pytest.approx(
        (1 - forward.estimate, 1 - forward.high, 1 - forward.low), abs=1e-12
    )
    assert forward.wins + forward.ties + forward.losses + forward.unscored == len(rows)


@pytest.mark.parametrize("ties", ["half", "loss"])
def test_winning_every_time_or_never_is_no_certainty(ties: Ties) -> None:
    won = win_rate([0.0] * 12, [1.0] * 12, seed=0, ties=ties)
    assert (won.estimate, won.low, won.high) == (1.0, pytest.approx(stats.binomtest(12, 12).proportion_ci(
        method="wilson").low), 1.0)  # fmt: skip
    clustered = win_rate([1.0] * 12, [0.0] * 12, seed=0, ties=ties, clusters=[row // 3 for row in range(12)])
    four = stats.binomtest(0, 4).proportion_ci(method="wilson").high  # prompts, not replies
    assert (clustered.estimate, clustered.low, clustered.high) == (0.0, 0.0, pytest.approx(four))


def test_a_model_against_itself_is_exactly_one_half() -> None:
    scores = np.random.default_rng(0).normal(size=333).tolist()
    found = win_rate(scores, scores, seed=0)
    assert (found.estimate, found.low, found.high, found.ties) == (0.5, 0.5, 0.5, 333)


def test_the_interval_is_that_of_the_paired_difference_of_the_half_points() -> None:
    a, b = np.random.default_rng(1).integers(0, 3, (2, 250)).astype(float)
    clusters = [row // 5 for row in range(250)]
    points = (b > a) + 0.5 * (b == a)
    expected = paired_difference(np.zeros(250), points, clusters=clusters, seed=7)
    found = win_rate(a.tolist(), b.tolist(), clusters=clusters, seed=7)
    assert (found.estimate, found.low, found.high) == (expected.estimate, expected.low, expected.high)
    assert found.num_prompts == 50


def test_labels_follow_their_rows_when_unscored_rows_leave() -> None:
    # Without the unscored rows each stratum holds one value only, so nothing is left to vary.
    baseline = [None, 0.0, 0.0, None, 1.0, 1.0]
    candidate = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    found = win_rate(baseline, candidate, strata=["s", "t", "t", "s", "u", "u"], seed=0)
    assert (found.low, found.high) == (0.5, 0.5)
    with pytest.raises(InputError, match="strata"):
        win_rate(baseline, candidate, strata=["t", "t", "u", "u"], seed=0)


def test_no_data_is_an_error_and_so_is_a_score_that_is_no_number() -> None:
    with pytest.raises(InputError):
        win_rate([], [], seed=0)
    with pytest.raises(InputError, match="None of 2 rows"):
        win_rate([None, 1.0], [1.0, None], seed=0)
    with pytest.raises(InputError, match="2 and 1"):
        win_rate([1.0, 2.0], [1.0], seed=0)
    with pytest.raises(InputError, match="Row 1"):
        win_rate([None, math.nan], [1.0, 1.0], seed=0)


def test_a_hundred_thousand_comparisons_take_less_than_a_second() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 100_000)).tolist()
    start = time.process_time()
    win_rate(a, b, seed=0)
    assert time.process_time() - start < 1.0
