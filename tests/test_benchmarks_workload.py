"""The rows of the benchmarks: lengths as documented, small runs like full ones, the same on every machine."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.workload import (
    CHOSEN,
    LONGEST_SEQUENCE,
    PROMPT,
    REJECTED,
    Column,
    Row,
    Shape,
    column_means,
    lognormal_lengths,
    pair_rows,
    pair_shapes,
    random_ids,
    stratified,
    warm_up_shapes,
)


@pytest.mark.parametrize("column", [PROMPT, CHOSEN, REJECTED])
def test_lengths_have_the_documented_mean_and_maximum_and_a_heavy_tail(column: Column) -> None:
    lengths = lognormal_lengths(64, column)
    assert sum(lengths) / 64 == column.mean
    assert max(lengths) == lengths[-1] == column.longest
    assert lengths == sorted(lengths)
    median = (lengths[31] + lengths[32]) / 2
    assert median < 0.9 * column.mean


def test_three_quantiles_of_a_lognormal_are_those_worked_out_by_hand() -> None:
    # The quantiles 1/6, 1/2, 5/6 lie at z = -0.9674, 0, 0.9674, so the lengths are 16 / r^2, 16 / r and 16, where r is
    # e^(0.9674 sigma); their mean is 28 / 3 where r = 2: 4, 8, 16.
    assert lognormal_lengths(3, Column(28 / 3, 16)) == [4, 8, 16]


def test_lengths_that_may_not_vary_do_not() -> None:
    assert lognormal_lengths(5, Column(7, 7)) == [7, 7, 7, 7, 7]


@given(st.integers(12, 200), st.integers(20, 100), st.integers(2, 4))
def test_rounding_keeps_the_sum_of_lengths(number: int, mean: int, factor: int) -> None:
    lengths = lognormal_lengths(number, Column(mean, mean * factor))
    assert sum(lengths) == mean * number
    assert max(lengths) == mean * factor


def test_the_64_pairs_have_the_means_of_their_columns_and_none_is_cut_by_trl() -> None:
    shapes = pair_shapes(64, seed=1)
    assert column_means(shapes) == (124, 129, 125)
    assert [max(column) for column in zip(*shapes, strict=True)] == [571, 396, 483]
    assert max(s.prompt + max(s.chosen, s.rejected) for s in shapes) <= LONGEST_SEQUENCE


def test_a_seed_decides_the_pairs() -> None:
    assert pair_shapes(64, seed=1) == pair_shapes(64, seed=1)
    assert pair_shapes(64, seed=1) != pair_shapes(64, seed=2)


@pytest.mark.parametrize("number", [4, 8, 12, 16, 32])
def test_fewer_pairs_are_part_of_the_64_and_have_nearly_their_mean_lengths(number: int) -> None:
    everything, few = pair_shapes(64, seed=1), pair_shapes(number, seed=1)
    assert len(few) == number
    assert set(few) <= set(everything)
    for mean, full in zip(column_means(few), column_means(everything), strict=True):
        assert mean == pytest.approx(full, rel=0.03)


def test_a_stratified_choice_takes_one_of_each_stratum() -> None:
    shapes = [Shape(n, n, n) for n in range(1, 13)]
    places = stratified(shapes, 4, seed=3)
    assert [place // 3 for place in places] == [0, 1, 2, 3]


def test_more_than_64_pairs_have_the_same_means() -> None:
    assert column_means(pair_shapes(128, seed=1)) == (124, 129, 125)


def test_rows_are_filled_from_the_stream_in_order() -> None:
    rows = pair_rows([Shape(2, 1, 3), Shape(1, 1, 1)], itertools.count(10), "pair")
    assert rows == [Row("pair/0", [10, 11], [[12], [13, 14, 15]]), Row("pair/1", [16], [[17], [18]])]
    assert [row.num_targets for row in rows] == [4, 2]


def test_random_ids_are_ordinary_tokens_and_the_seeds() -> None:
    draw = list(itertools.islice(random_ids(8, (0, 3), seed=1), 200))
    assert set(draw) == {1, 2, 4, 5, 6, 7}
    assert draw == list(itertools.islice(random_ids(8, (0, 3), seed=1), 200))


def test_warm_up_pairs_have_the_mean_lengths_but_for_one_that_is_longer() -> None:
    assert warm_up_shapes(3) == [Shape(124, 129, 125), Shape(124, 129, 125), Shape(248, 129, 125)]
