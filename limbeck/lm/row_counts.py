"""How many rows a matrix product may have, so that a row's bits are those it has in a product of the usual size.

A library's product sums a row in another order where it takes another kernel, for another number of rows or for the
rows that are left over of a multiple. Which numbers share one order is not documented, and differs between libraries
and processors: it is tried, once for each.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

STEP = 16  # more than one row: a multiple of it
_CONTENTS = 13  # different rows, repeated; prime to the step, so that each comes to stand in every place of it


class RowCounts:
    """Numbers of rows that give the products with each of `modules` the same bits, wherever in them a row stands.

    `usual`: the number to compare with, rounded up. A few rows on a GPU stay as they are, since each is memory there;
    that a row's bits are then the same in each place is not tried.
    """

    def __init__(self, modules: Iterable[nn.Linear], usual: int) -> None:
        modules = list(modules)
        few = usual == 1 or (usual < STEP and any(module.weight.device.type != "cpu" for module in modules))
        self.usual = usual if few else _multiple(usual)
        kinds = {(module.weight.shape, module.weight.dtype, module.bias is None): module for module in modules}
        self._modules = list(kinds.values())
        self._alike: dict[int, bool] = {self.usual: True}

    def at_least(self, wanted: int) -> int:
        """The smallest number that is tried, holds `wanted` rows, at most the usual ones, and gives the usual bits."""
        number = min(_multiple(wanted), self.usual)
        while number < self.usual and not self._is_alike(number):
            number += STEP
        return number

    def _is_alike(self, number: int) -> bool:
        if number not in self._alike:
            with torch.inference_mode():
                self._alike[number] = all(self._agrees(module, number) for module in self._modules)
        return self._alike[number]

    def _agrees(self, module: nn.Linear, number: int) -> bool:
        """Whether both products of the same random rows have the same bits.

        Both are computed now: a model in training has other weights than when another number was tried.
        """
        weight = module.weight
        rows = torch.randn(_CONTENTS, weight.shape[1], generator=torch.Generator().manual_seed(0)).to(weight)
        usual, tried = (linear(rows[_content(size)], weight, module.bias) for size in (self.usual, number))
        return torch.equal(tried, usual[_content(number)])


def _content(number: int) -> Tensor:
    """Which of the different rows stands in each of `number` places."""
    return torch.arange(number) % _CONTENTS


def _multiple(number: int) -> int:
    return -(-number // STEP) * STEP
