"""Matrix products of the fused decoder: with the model's own weights, or with weights of 8 bits.

A weight of 8 bits is rounded once, with one scale for each of its rows. States keep 15 bits, as two bytes and one scale
a token: in 8 bits their few large channels would drown the others (Dettmers et al. 2022, LLM.int8). Products are sums
of integers and exact: a token's bits do not depend on what else is computed.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from limbeck.lm.kernels import Kernels

_LARGEST = 127


class Products(Protocol):
    """Applies a linear module to rows of states."""

    def __call__(self, states: Tensor, module: Any, dtype: torch.dtype | None = None) -> Tensor:
        """States [T, K] -> [T, N], in `dtype` where it is given."""


def own_products(states: Tensor, module: Any, dtype: torch.dtype | None = None) -> Tensor:
    """The product in the weights' own dtype."""
    return linear(states, module.weight, module.bias).to(dtype or states.dtype)


class _Weight(NamedTuple):
    values: Tensor  # [N, K] int8
    scales: Tensor  # [N] fp32
    bias: Tensor | None  # [N] fp32


class Int8Products:
    """Products with the given modules' weights in 8 bits; the modules stay as they are."""

    def __init__(self, kernels: Kernels, modules: Iterable[nn.Linear]) -> None:
        self._kernels = kernels
        self._weights = {module: _rounded(module) for module in modules}
        self._last: tuple[Tensor, tuple[Tensor, Tensor]] | None = None

    def __call__(self, states: Tensor, module: Any, dtype: torch.dtype | None = None) -> Tensor:
        """As `Products` says."""
        if self._last is None or self._last[0] is not states:  # queries, keys and values are of the same states
            self._last = states, self._kernels.quantise(states)
        rounded, scales = self._last[1]
        weight = self._weights[module]
        products: Tensor = torch._int_mm(rounded, weight.values.t())
        return self._kernels.dequantise(products, (scales, weight.scales), weight.bias, dtype or states.dtype)


def _rounded(module: nn.Linear) -> _Weight:
    weight = module.weight.detach().float()
    scales = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / _LARGEST
    values = (weight / scales[:, None]).round().to(torch.int8)
    return _Weight(values, scales, None if module.bias is None else module.bias.detach().float())
