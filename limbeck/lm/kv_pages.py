"""Keys and values in pages of sixteen tokens: a sample holds what it has written, and samples of a prompt share it.

Pages are taken lowest first and memory is touched only where it is used, so that what is held at once decides the size.
Knows which page holds what, not how they are computed.
"""

import mmap
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.lm.kernels import TOKENS_A_PAGE

_SCRATCH = 0  # the page of rows that hold no sample


class Shape(NamedTuple):
    """Of one layer's cache: key/value heads, and numbers a head."""

    groups: int
    size: int


class Pages:
    """The page table of `slots` samples of at most `capacity` tokens, and the pages of each layer.

    `tables` [slots, W] int32: the pages of each slot, in order. `layers`: keys [P, groups, size, 16] and values
    [P, groups, 16, size] of each layer.
    """

    def __init__(self, slots: int, capacity: int, num_layers: int, shape: Shape, dtype: torch.dtype) -> None:
        width = -(-capacity // TOKENS_A_PAGE)
        self.tables = torch.full((slots, width), _SCRATCH, dtype=torch.int32)
        self._held: list[list[int]] = [[] for _ in range(slots)]
        number = 1 + slots * width
        self._users = [0] * number
        self._free = list(range(1, number))
        heapify(self._free)
        key_shape = (number, shape.groups, shape.size, TOKENS_A_PAGE)
        value_shape = (number, shape.groups, TOKENS_A_PAGE, shape.size)
        self.layers = [(untouched(key_shape, dtype), untouched(value_shape, dtype)) for _ in range(num_layers)]

    def fill(self, prompts: Sequence[tuple[int, Sequence[int]]]) -> Tensor:
        """Take pages for prompts of a packed row, given as (number of tokens, slots); slots share the full pages.

        Returns [N, 3] int32: token of the row, page and place in the page that its keys and values belong to.
        """
        places = [torch.empty((0, 3), dtype=torch.int32)]
        start = 0
        for length, slots in prompts:
            full = length // TOKENS_A_PAGE
            shared = [self._take() for _ in range(full)]
            places.append(_places(start, shared))
            for slot in slots:
                for page in shared:
                    self._users[page] += 1
                self._set(slot, shared)
                if length > full * TOKENS_A_PAGE:
                    self.extend(slot, length - 1)
                    rest = _places(start + full * TOKENS_A_PAGE, self._held[slot][-1:])
                    places.append(rest[: length - full * TOKENS_A_PAGE])
            start += length
        return torch.cat(places).contiguous()

    def extend(self, slot: int, position: int) -> None:
        """See that `slot` has a page for `position`, which is at most one beyond what it holds."""
        held = self._held[slot]
        if position < len(held) * TOKENS_A_PAGE:
            return
        page = self._take()
        self._users[page] = 1
        self.tables[slot, len(held)] = page
        held.append(page)

    def move(self, source: int, target: int) -> None:
        """Give the pages of slot `source` to slot `target`, which holds none."""
        self._set(target, self._held[source])
        self._set(source, [])

    def release(self, slot: int) -> None:
        """Give back what `slot` holds; pages that others use stay."""
        for page in self._held[slot]:
            self._users[page] -= 1
            if not self._users[page]:
                heappush(self._free, page)
        self._set(slot, [])

    @property
    def in_use(self) -> int:
        """Pages that are held."""
        return len(self._users) - 1 - len(self._free)

    def _take(self) -> int:
        return heappop(self._free)

    def _set(self, slot: int, pages: Sequence[int]) -> None:
        self._held[slot] = list(pages)
        self.tables[slot] = _SCRATCH  # the kernel looks one page ahead
        self.tables[slot, : len(pages)] = torch.tensor(pages, dtype=torch.int32)


def _places(start: int, pages: Sequence[int]) -> Tensor:
    """[16 * pages, 3] int32: tokens from `start` on, page after page."""
    number = len(pages) * TOKENS_A_PAGE
    tokens = torch.arange(start, start + number, dtype=torch.int32)
    in_page = torch.arange(TOKENS_A_PAGE, dtype=torch.int32).repeat(len(pages))
    return torch.stack([tokens, torch.tensor(pages, dtype=torch.int32).repeat_interleave(TOKENS_A_PAGE), in_page], 1)


def untouched(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Zeros for which the operating system finds memory page by page, when they are first written.

    Raises:
        OSError: where there is no room for them at all.
    """
    held = mmap.mmap(-1, prod(shape) * dtype.itemsize)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        held.madvise(mmap.MADV_HUGEPAGE)  # one fault in two megabytes, not five hundred
    return torch.frombuffer(held, dtype=dtype).view(*shape)
