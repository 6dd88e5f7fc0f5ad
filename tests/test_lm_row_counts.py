"""Numbers of rows whose products have the bits of the usual number: tried here with rows that the class did not try."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from limbeck.lm.row_counts import RowCounts

SHAPES = [(192, 576), (576, 576), (96, 32), (1536, 576), (576, 1536), (300, 64)]


def modules(dtype: torch.dtype, bias: bool = False) -> list[nn.Linear]:
    torch.manual_seed(1)
    return [nn.Linear(inner, outer, bias=bias).to(dtype) for outer, inner in SHAPES]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("usual", [1, 16, 24, 64, 100, 256])
@torch.inference_mode()
def test_rows_have_the_usual_bits_wherever_they_stand_and_there_are_enough_of_them(
    usual: int, dtype: torch.dtype, bias: bool
) -> None:
    matrices = modules(dtype, bias)
    counts = RowCounts(matrices, usual)
    draw = torch.Generator().manual_seed(2)
    for wanted in {1, usual // 7, usual // 3, usual // 2, usual - 1, usual} - {0}:
        number = counts.at_least(wanted)
        assert wanted <= number <= counts.usual
        for module in matrices:
            rows = torch.randn(counts.usual, module.in_features, generator=draw).to(dtype) * 3
            whole = module(rows)
            places = torch.randperm(counts.usual, generator=draw)[:number]
            assert torch.equal(module(rows[places]), whole[places])


@given(wanted=st.integers(1, 200), usual=st.integers(1, 200))
def test_without_products_it_is_the_next_multiple_of_sixteen(wanted: int, usual: int) -> None:
    counts = RowCounts([], usual)
    assert counts.usual == (1 if usual == 1 else -(-usual // 16) * 16)
    if wanted <= usual:
        assert counts.at_least(wanted) == (1 if usual == 1 else -(-wanted // 16) * 16)


def test_the_answer_does_not_depend_on_what_was_asked_before() -> None:
    matrices = modules(torch.bfloat16)
    asked = list(range(1, 130, 9))
    together = RowCounts(matrices, 128)
    expected = [RowCounts(matrices, 128).at_least(wanted) for wanted in asked]
    assert [together.at_least(wanted) for wanted in asked] == expected
    assert [together.at_least(wanted) for wanted in asked[::-1]] == expected[::-1]


def test_weights_that_change_between_two_questions_change_no_answer() -> None:
    changing = modules(torch.float32)
    counts = RowCounts(changing, 96)
    counts.at_least(16)  # while the first weights are there
    with torch.no_grad():
        for module in changing:
            module.weight.add_(1)
    expected = [RowCounts(modules(torch.float32), 96).at_least(wanted) for wanted in (20, 40, 60)]
    assert [counts.at_least(wanted) for wanted in (20, 40, 60)] == expected


def test_more_rows_never_give_a_smaller_number() -> None:
    counts = RowCounts(modules(torch.float32), 96)
    numbers = [counts.at_least(wanted) for wanted in range(1, 97)]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(("usual", "rows"), [(1, 1), (6, 6), (15, 15), (16, 16), (17, 32)])
def test_a_few_rows_on_a_gpu_stay_as_they_are(usual: int, rows: int) -> None:
    weight = SimpleNamespace(device=torch.device("mps"), shape=(4, 4), dtype=torch.float32)
    module = cast(nn.Linear, SimpleNamespace(weight=weight, bias=None))
    counts = RowCounts([module], usual)
    assert counts.usual == rows
    assert counts.at_least(usual) == rows
