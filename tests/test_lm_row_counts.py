"""Numbers of rows whose products have the bits of the usual number: tried here with rows that the class did not try."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear

from limbeck.lm.row_counts import RowCounts

SHAPES = [(192, 576), (576, 576), (96, 32), (1536, 576), (576, 1536), (300, 64)]


def weights(dtype: torch.dtype) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randn(*shape, generator=draw).to(dtype) for shape in SHAPES]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("usual", [1, 16, 24, 64, 100, 256])
def test_rows_have_the_usual_bits_and_there_are_enough_of_them_and_not_more_than_usual(
    usual: int, dtype: torch.dtype
) -> None:
    matrices = weights(dtype)
    counts = RowCounts(matrices, usual)
    draw = torch.Generator().manual_seed(2)
    for wanted in {1, usual // 7 + 1, usual // 3 + 1, usual // 2, usual - 1, usual} - {0}:
        number = counts.at_least(wanted)
        assert wanted <= number <= usual
        for weight in matrices:
            rows = torch.randn(usual, weight.shape[1], generator=draw).to(dtype) * 3
            assert torch.equal(linear(rows[:number].clone(), weight), linear(rows, weight)[:number])


@given(wanted=st.integers(0, 300), usual=st.integers(1, 200))
def test_without_weights_it_is_the_next_multiple_of_sixteen_but_no_more_than_usual(wanted: int, usual: int) -> None:
    number = RowCounts([], usual).at_least(wanted)
    assert number == (wanted if wanted >= usual else min(-(-wanted // 16) * 16, usual))


def test_as_many_rows_as_usual_or_more_are_taken_as_they_are() -> None:
    counts = RowCounts(weights(torch.float32), 64)
    assert [counts.at_least(wanted) for wanted in (64, 65, 1000)] == [64, 65, 1000]


def test_the_answer_does_not_depend_on_what_was_asked_before() -> None:
    matrices = weights(torch.bfloat16)
    asked = list(range(1, 130, 9))
    together = RowCounts(matrices, 128)
    expected = [RowCounts(matrices, 128).at_least(wanted) for wanted in asked]
    assert [together.at_least(wanted) for wanted in asked] == expected
    assert [together.at_least(wanted) for wanted in asked[::-1]] == expected[::-1]


def test_more_rows_never_give_a_smaller_number() -> None:
    counts = RowCounts(weights(torch.float32), 96)
    numbers = [counts.at_least(wanted) for wanted in range(1, 120)]
    assert numbers == sorted(numbers)
