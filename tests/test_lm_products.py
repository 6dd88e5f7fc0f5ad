"""Products with weights of 8 bits: against their definition in fp64, and the product that they stand for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from limbeck.lm.kernels import Kernels
from limbeck.lm.products import Int8Products, own_products

DTYPES = [torch.float32, torch.bfloat16]
RELATIVE = {torch.float32: 2e-6, torch.bfloat16: 2**-8}  # one rounding, and what fp32 loses before it


def module_of(inner: int, outer: int, *, bias: bool = False, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(inner + outer)
    module = nn.Linear(inner, outer, bias=bias, dtype=dtype)
    module.weight.requires_grad_(False)
    if bias:
        module.bias.requires_grad_(False).normal_()
    return module


def states_of(rows: int, inner: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, inner, generator=torch.Generator().manual_seed(seed)).to(dtype)


def in_bytes(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in units of one scale each, at most 127 of them; fp64. Rows of zeros have scale 0."""
    scales = rows.double().abs().amax(1) / 127
    return torch.where(scales > 0, 1 / scales, 0)[:, None] * rows.double(), scales


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("inner", "outer"), [(64, 48), (576, 1536), (16, 1), (96, 77)])
def test_a_product_is_that_of_states_in_two_bytes_and_weights_in_one(
    compiled: Kernels, inner: int, outer: int, bias: bool, dtype: torch.dtype
) -> None:
    module, states = module_of(inner, outer, bias=bias, dtype=dtype), states_of(9, inner, dtype=dtype)
    units, _ = in_bytes(module.weight)
    module.weight[((units - units.round()).abs() - 0.5).abs() < 1e-3] = 0  # those that might be rounded either way
    (units, scales), (weights, weight_scales) = in_bytes(states), in_bytes(module.weight)
    units = units.round() + ((units - units.round()) * 254).round() / 254
    exact = (units @ weights.round().t()) * scales[:, None] * weight_scales
    # A state within rounding of a half may go either way, by one unit of the second byte.
    allowed = float((scales.max() / 254) * (weights.round().abs() * weight_scales[:, None]).max()) * 2 + 1e-6
    if bias:
        exact = exact + module.bias.double()
    got = Int8Products(compiled, [module])(states, module)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), exact, rtol=RELATIVE[dtype], atol=allowed)


@given(seed=st.integers(0, 2**20), blocks=st.integers(1, 8), outer=st.integers(1, 20))
def test_a_product_is_as_near_to_the_models_own_as_half_units_allow(
    compiled: Kernels, seed: int, blocks: int, outer: int
) -> None:
    module, states = module_of(16 * blocks, outer, bias=True), states_of(3, 16 * blocks, seed)
    exact = states.double() @ module.weight.double().t() + module.bias.double()
    state_half = states.abs().amax(1) / 127 / 508 * 1.02  # of the second byte, and rounding of fp32
    weight_half = module.weight.abs().amax(1) / 254
    # |xw - (x + a)(w + b)| <= |a||w| + |x||b| + |a||b|, summed over the inner dimension
    allowed = state_half[:, None] * module.weight.abs().sum(1) + states.abs().sum(1)[:, None] * weight_half
    allowed = allowed + 16 * blocks * state_half[:, None] * weight_half
    got = Int8Products(compiled, [module])(states, module)
    assert bool(((got - exact).abs() <= allowed * 1.001 + 1e-6).all())


def test_sums_of_the_largest_numbers_do_not_overflow(compiled: Kernels) -> None:
    module = nn.Linear(16384, 16, bias=False)
    nn.init.constant_(module.weight, 2.0)
    got = Int8Products(compiled, [module])(torch.full((2, 16384), -3.0), module)
    torch.testing.assert_close(got, torch.full((2, 16), -6.0 * 16384))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_zeros_give_the_bias_and_weights_of_zeros_too(compiled: Kernels, dtype: torch.dtype) -> None:
    module, states = module_of(32, 24, bias=True, dtype=dtype), states_of(4, 32, dtype=dtype)
    states[2] = 0
    module.weight[[0, 23]] = 0
    got = Int8Products(compiled, [module])(states, module)
    assert torch.equal(got[2], module.bias)
    assert torch.equal(got[:, [0, 23]], module.bias[[0, 23]].expand(4, 2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_rows_bits_do_not_depend_on_other_rows(compiled: Kernels, dtype: torch.dtype) -> None:
    module, states = module_of(128, 96, bias=True, dtype=dtype), states_of(70, 128, dtype=dtype)
    products = Int8Products(compiled, [module])
    together = products(states, module)
    for rows in (1, 2, 15, 16, 33, 69):
        assert torch.equal(products(states[:rows].clone(), module), together[:rows])
    order = torch.randperm(70, generator=torch.Generator().manual_seed(1))
    assert torch.equal(products(states[order], module), together[order])
    alone = torch.cat([products(states[row : row + 1].clone(), module) for row in range(70)])
    assert torch.equal(alone, together)


def test_states_that_several_modules_read_one_after_another_give_each_its_own_product(compiled: Kernels) -> None:
    first, second = module_of(32, 16), module_of(32, 48)
    products = Int8Products(compiled, [first, second])
    states, others = states_of(5, 32), states_of(5, 32, seed=1)
    got = [products(states, first), products(states, second), products(others, first), products(states, first)]
    asked = [(states, first), (states, second), (others, first), (states, first)]
    fresh = [Int8Products(compiled, [module])(rows.clone(), module) for rows, module in asked]
    assert all(torch.equal(one, other) for one, other in zip(got, fresh, strict=True))
    assert not torch.equal(got[0], got[2])


def test_products_come_in_the_dtype_that_is_asked_for(compiled: Kernels) -> None:
    module, states = module_of(32, 16, dtype=torch.bfloat16), states_of(5, 32, dtype=torch.bfloat16)
    for products in (own_products, Int8Products(compiled, [module])):
        narrow, wide = products(states, module), products(states, module, torch.float32)
        assert (narrow.dtype, wide.dtype) == (torch.bfloat16, torch.float32)
        assert torch.equal(wide.bfloat16(), narrow)


def test_the_modules_own_weights_stay_as_they_are(compiled: Kernels) -> None:
    module = module_of(32, 16, bias=True)
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    Int8Products(compiled, [module])(states_of(3, 32), module)
    assert all(torch.equal(parameter, before[name]) for name, parameter in module.named_parameters())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
def test_own_products_are_the_modules(bias: bool, dtype: torch.dtype) -> None:
    module, states = module_of(32, 16, bias=bias, dtype=dtype), states_of(5, 32, dtype=dtype)
    assert torch.equal(own_products(states, module), module(states))
