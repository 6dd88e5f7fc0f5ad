"""The shortcut test: areas by hand, intervals that cover, classifiers that find what is there and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from limbeck.errors import InputError
from limbeck.statistics.shortcut import fit_antisymmetric, heldout_auc, heldout_scores, pair_auc


def slow_area(scores: list[float]) -> float:
    """Every pair against every other one swapped: won, or half won where the scores are equal."""
    won = [float(a > -b) + (a == -b) / 2 for i, a in enumerate(scores) for j, b in enumerate(scores) if i != j]
    return sum(won) / len(won)


def test_the_area_by_hand() -> None:
    # Sums of two: 3 - 1 > 0, 3 + 2 > 0, -1 + 2 > 0: all three. Of -3, 1, 2: -2, -1 and 3: one of three.
    assert pair_auc(np.array([3.0, -1.0, 2.0]), "abc").estimate == 1.0
    assert pair_auc(np.array([-3.0, 1.0, 2.0]), "abc").estimate == pytest.approx(1 / 3)
    assert pair_auc(np.zeros(4), "abcd").estimate == 0.5


@given(scores=st.lists(st.integers(-4, 4), min_size=2, max_size=25))
@settings(max_examples=80, deadline=None)
def test_the_area_is_the_slow_one_and_swapping_all_pairs_mirrors_it(scores: list[int]) -> None:
    values = np.array(scores, dtype=np.float64)
    found, mirrored = pair_auc(values, range(len(scores))), pair_auc(-values, range(len(scores)))
    assert found.estimate == pytest.approx(slow_area([float(score) for score in scores]))
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert mirrored == pytest.approx((1 - found.estimate, 1 - found.high, 1 - found.low, len(scores)))


@pytest.mark.parametrize(("shift", "area"), [(0.0, 0.5), (0.5, 0.7602), (2.0, 0.9977)])
def test_intervals_of_the_area_cover_the_true_one_as_often_as_they_say(shift: float, area: float) -> None:
    # Scores are normal around `shift`: the sum of two is above 0 with probability Phi(shift sqrt 2).
    generator = np.random.default_rng(5)
    intervals = [pair_auc(generator.normal(shift, 1, 80), range(80)) for _ in range(400)]
    covered = sum(found.low <= area <= found.high for found in intervals)
    assert covered >= 370  # 380 expected at 95 %; the standard deviation of that count is 4.4


def test_ten_pairs_of_one_prompt_are_one_piece_of_evidence() -> None:
    generator = np.random.default_rng(2)
    once = generator.normal(0.3, 1, 60)
    alone = pair_auc(once, range(60))
    repeated = pair_auc(np.repeat(once, 10), np.repeat(np.arange(60), 10).tolist())
    assert repeated.n == 60
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_weights_are_where_the_slope_of_the_penalised_likelihood_is_zero() -> None:
    differences = np.array([[1.0, 0.0], [1.0, 1.0], [-0.5, 2.0], [0.3, -1.0]])
    weights = fit_antisymmetric(differences, penalty=0.7)
    slope = 0.7 * weights - differences.T @ (1 / (1 + np.exp(differences @ weights)))
    assert np.abs(slope).max() < 1e-4
    assert fit_antisymmetric(sparse.csr_matrix(differences), penalty=0.7) == pytest.approx(weights, abs=1e-6)
    assert fit_antisymmetric(-differences, penalty=0.7) == pytest.approx(-weights, abs=1e-6)


def test_a_pair_is_scored_by_a_classifier_that_saw_no_pair_of_its_prompt() -> None:
    # Each prompt has a word of its own, in both of its pairs: known only where a prompt's other pair was trained on.
    own = np.repeat(np.eye(30), 2, axis=0)
    assert np.abs(heldout_scores(own, [row // 2 for row in range(60)], seed=1)).max() == 0
    assert np.abs(heldout_scores(own, list(range(60)), seed=1)).max() > 0


@pytest.mark.parametrize("features", [1, 30])
def test_where_there_is_nothing_to_learn_cross_validated_intervals_cover_one_half(features: int) -> None:
    generator = np.random.default_rng(0)
    noise = [generator.normal(0, 1, (100, features)) for _ in range(80)]
    found = [heldout_auc(each, range(100), seed=1, penalty=10) for each in noise]
    assert sum(each.low <= 0.5 <= each.high for each in found) >= 75  # 76 is 95 %; without the correction about 70


def test_a_feature_of_every_chosen_is_found_among_noise() -> None:
    generator = np.random.default_rng(11)
    noise = generator.poisson(0.5, (300, 40)) - generator.poisson(0.5, (300, 40)).astype(np.float64)
    assert heldout_auc(np.hstack([noise, np.ones((300, 1))]), range(300), seed=3).low > 0.9


def test_the_same_seed_gives_the_same_scores() -> None:
    differences = np.random.default_rng(1).normal(0.2, 1, (50, 3))
    assert (heldout_scores(differences, range(50), seed=4) == heldout_scores(differences, range(50), seed=4)).all()
    assert (heldout_scores(differences, range(50), seed=4) != heldout_scores(differences, range(50), seed=5)).any()


def test_too_few_prompts_are_an_error_and_not_an_area() -> None:
    with pytest.raises(InputError, match="needs 5 prompts, and there are 2"):
        heldout_scores(np.ones((6, 1)), [0, 0, 0, 1, 1, 1], seed=1)
    with pytest.raises(InputError, match="at least two prompts"):
        pair_auc(np.ones(3), [0, 0, 0])
