"""Rounding by chance: one of the two neighbours, the nearer the likelier, exact on average."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.lm.rounding import stochastic_bf16

finite = st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.lists(finite, min_size=1, max_size=9), st.integers(0, 9))
def test_every_value_becomes_one_of_its_two_neighbours(values: list[float], seed: int) -> None:
    exact = torch.tensor(values)
    got = stochastic_bf16(exact, drawn(seed))
    assert got.dtype == torch.bfloat16
    toward_zero = (exact.view(torch.int32) & -65536).view(torch.float32)
    away = (toward_zero.view(torch.int32) + 65536).view(torch.float32)
    assert bool(((got.float() == toward_zero) | (got.float() == away)).all())


@given(st.lists(finite, min_size=1, max_size=9), st.integers(0, 9))
def test_what_bf16_can_hold_stays_as_it_is(values: list[float], seed: int) -> None:
    held = torch.tensor(values).bfloat16()
    assert torch.equal(stochastic_bf16(held.float(), drawn(seed)), held)


@pytest.mark.parametrize("value", [1.001, -1.001, 1.0069, 0.3333, -3e-5])
def test_the_mean_is_the_value_where_the_nearest_number_is_not(value: float) -> None:
    many = torch.full((200_000,), value)
    step = 2.0 ** (torch.tensor(abs(value)).log2().floor().item() - 7)  # between neighbours
    got = stochastic_bf16(many, drawn()).float()
    assert float(got.double().mean()) == pytest.approx(value, abs=5 * 0.5 * step / 200_000**0.5)
    assert abs(float(many[0].bfloat16().float()) - value) > 10 * 0.5 * step / 200_000**0.5


def test_the_generator_alone_decides() -> None:
    values = torch.linspace(-3, 3, 1000)
    one, again, other = (stochastic_bf16(values, drawn(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
