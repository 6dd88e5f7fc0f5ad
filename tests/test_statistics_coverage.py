"""Coverage: rarefaction and effective numbers by hand, clusters that are there, and narrow sets that show as such."""

import itertools
import random

import numpy as np
import pytest
from scipy import sparse

from limbeck.errors import InputError
from limbeck.statistics.coverage import coverage, effective_number, expected_reach, spherical_kmeans

TOPICS = [[f"t{topic}w{word}" for word in range(30)] for topic in range(8)]


def prompts(number: int, topics: int, seed: int) -> list[list[str]]:
    """Prompts of eight words of one topic each, the topics in turn."""
    rng = random.Random(seed)
    return [rng.sample(TOPICS[place % topics], 8) for place in range(number)]


def test_expected_reach_is_the_mean_over_all_draws() -> None:
    sizes = np.array([3, 1, 0, 2])
    members = [group for group, size in enumerate(sizes) for _ in range(size)]
    for draws in range(1, 7):
        reached = [len(set(drawn)) / 4 for drawn in itertools.combinations(members, draws)]
        assert expected_reach(sizes, draws) == pytest.approx(sum(reached) / len(reached))


def test_effective_number_by_hand() -> None:
    # 2 and 2 of 4: two different members lie in one group in 4 of 12 ordered draws.
    assert effective_number(np.array([2, 2])) == 2.0  # 3, cut at the two groups there are
    assert effective_number(np.array([3, 1])) == 2.0  # 12 / 6
    assert effective_number(np.array([5, 0, 0])) == 1.0
    assert effective_number(np.array([1, 1, 1])) == 3.0


def test_kmeans_finds_topics_that_share_no_word() -> None:
    rows = prompts(80, 8, seed=1)
    words = {word: place for place, word in enumerate(itertools.chain.from_iterable(TOPICS))}
    units = sparse.lil_matrix((80, len(words)))
    for row, prompt in enumerate(rows):
        for word in prompt:
            units[row, words[word]] = 8**-0.5
    centres = spherical_kmeans(units.tocsr(), 8, np.random.default_rng(1))
    assert np.linalg.norm(centres, axis=1) == pytest.approx(np.ones(8))
    clusters = np.asarray(units.tocsr() @ centres.T).argmax(axis=1)
    together = [len({clusters[row] for row in range(80) if row % 8 == topic}) for topic in range(8)]
    assert np.mean(together) <= 1.5  # k-means may part one topic and join two others; seldom more


def test_prompts_of_all_topics_cover_and_those_of_two_are_narrow() -> None:
    anchors = prompts(400, 8, seed=2)
    wide, narrow = (
        coverage(prompts(100, 8, seed=3), anchors, seed=1),
        coverage(prompts(100, 2, seed=4), anchors, seed=1),
    )
    assert wide.reached / wide.reached_by_controls > 0.9
    assert wide.effective / wide.effective_of_controls > 0.8
    assert narrow.reached / narrow.reached_by_controls < 0.4
    assert narrow.effective / narrow.effective_of_controls < 0.4
    assert wide.num_compared == 100


def test_more_of_the_same_prompts_do_not_seem_to_cover_more() -> None:
    # 50 prompts and 5,000 copies of them are compared at the same number of draws.
    anchors, few = prompts(400, 8, seed=2), prompts(50, 3, seed=5)
    many = coverage(few * 100, anchors, seed=1)
    assert many.num_compared == 200
    assert many.reached / many.reached_by_controls < 0.6


def test_new_ground_is_far_and_known_ground_is_not() -> None:
    anchors = prompts(400, 8, seed=2)
    foreign = [[f"f{row}w{word}" for word in range(8)] for row in range(40)]
    assert coverage(foreign, anchors, seed=1).far == 1.0
    assert coverage(prompts(200, 8, seed=6), anchors, seed=1).far < 0.15


def test_coverage_is_the_same_for_the_same_seed_and_refuses_too_few() -> None:
    anchors = prompts(60, 8, seed=2)
    assert coverage(anchors[:40], anchors, seed=3) == coverage(anchors[:40], anchors, seed=3)
    with pytest.raises(InputError, match="needs 40 prompts to compare with and 40 to compare; there are 39 and 20"):
        coverage(anchors[:20], anchors[:39], seed=3)
