"""How many rows a matrix product may have, so that a row's bits are those it has in a product of the usual size.

A library's product sums a row in another order where it takes another kernel for another number of rows. Which numbers
share one order is not documented, and differs between libraries and processors: it is tried, once for each.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import linear

_STEP = 16  # numbers of rows that are tried: multiples of it


class RowCounts:
    """Numbers of rows that give every one of `weights` (matrices [out, in]) the bits of `usual` rows."""

    def __init__(self, weights: Iterable[Tensor], usual: int) -> None:
        self._usual = usual
        self._weights = list({(weight.shape, weight.dtype): weight for weight in weights}.values())
        self._alike: dict[int, bool] = {usual: True}
        self._expected: list[tuple[Tensor, Tensor]] = []

    def at_least(self, wanted: int) -> int:
        """The smallest number that is tried, holds `wanted` rows and gives the usual bits; else the usual one.

        More rows than usual are taken as they are: a prompt of that length always is alone in its row.
        """
        if wanted >= self._usual:
            return wanted
        number = -(-wanted // _STEP) * _STEP
        while number < self._usual and not self._is_alike(number):
            number += _STEP
        return min(number, self._usual)

    def _is_alike(self, number: int) -> bool:
        if number not in self._alike:
            with torch.inference_mode():
                self._alike[number] = all(
                    torch.equal(linear(rows[:number], weight), expected[:number])
                    for weight, (rows, expected) in zip(self._weights, self._tried(), strict=True)
                )
        return self._alike[number]

    def _tried(self) -> list[tuple[Tensor, Tensor]]:
        """For each weight: random rows, and what they give in a product of the usual size."""
        if not self._expected:
            generator = torch.Generator().manual_seed(0)
            for weight in self._weights:
                rows = torch.randn(self._usual, weight.shape[1], generator=generator).to(weight)
                self._expected.append((rows, linear(rows, weight)))
        return self._expected
