"""How many rows a matrix product may have, so that a row's bits are those it has in a product of the usual size.

A library's product sums a row in another order where it takes another kernel, for another number of rows or for the
rows that are left over of a multiple. Which numbers share one order is not documented, and differs between libraries
and processors: it is tried, once for each.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_STEP = 16  # more than one row: a multiple of it
_CONTENTS = 13  # different rows, repeated; prime to the step, so that each comes to stand in every place of it


class RowCounts:
    """Numbers of rows that give the products with each of `modules` the same bits, wherever in them a row stands.

    `usual`: the number to compare with, rounded up.
    """

    def __init__(self, modules: Iterable[nn.Linear], usual: int) -> None:
        self.usual = 1 if usual == 1 else _multiple(usual)
        kinds = {(module.weight.shape, module.weight.dtype, module.bias is None): module for module in modules}
        self._modules = list(kinds.values())
        self._alike: dict[int, bool] = {self.usual: True}
        self._expected: list[tuple[Tensor, Tensor]] = []

    def at_least(self, wanted: int) -> int:
        """The smallest number that is tried, holds `wanted` rows, at most the usual ones, and gives the usual bits."""
        number = min(_multiple(wanted), self.usual)
        while number < self.usual and not self._is_alike(number):
            number += _STEP
        return number

    def _is_alike(self, number: int) -> bool:
        if number not in self._alike:
            with torch.inference_mode():
                self._alike[number] = all(
                    torch.equal(linear(rows[_content(number)], module.weight, module.bias), expected[_content(number)])
                    for module, (rows, expected) in zip(self._modules, self._tried(), strict=True)
                )
        return self._alike[number]

    def _tried(self) -> list[tuple[Tensor, Tensor]]:
        """For each module: random rows, and what they give in a product of the usual size."""
        if not self._expected:
            generator = torch.Generator().manual_seed(0)
            for module in self._modules:
                weight = module.weight
                rows = torch.randn(_CONTENTS, weight.shape[1], generator=generator).to(weight)
                usual = linear(rows[_content(self.usual)], weight, module.bias)
                self._expected.append((rows, usual[:_CONTENTS].clone()))
        return self._expected


def _content(number: int) -> Tensor:
    """Which of the different rows stands in each of `number` places."""
    return torch.arange(number) % _CONTENTS


def _multiple(number: int) -> int:
    return -(-number // _STEP) * _STEP
