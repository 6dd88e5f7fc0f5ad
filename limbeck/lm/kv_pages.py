"""Keys and values in pages of sixteen tokens: a sample holds what it has read and written, and no more.

Prompts that begin alike share the full pages of what they have in common, as long as a sample holds them: a system
prompt, examples, all of it for samples of one prompt. Pages are taken lowest first and memory is touched only where it
is used, so that what is held at once decides the size. Knows which page holds what, not how they are computed.
"""

import mmap
from collections.abc import Sequence
from contextlib import suppress
from heapq import heapify, heappop, heappush
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.lm.kernels import TOKENS_A_PAGE

_SCRATCH = 0  # the page of rows that hold no sample


_Beginning = tuple[int, tuple[int, ...]]  # the page before, and the tokens of a full page


class Shape(NamedTuple):
    """Of one layer's cache: key/value heads, and numbers a head."""

    groups: int
    size: int


class Filled(NamedTuple):
    """What is still to be computed of a prompt: its tokens from `start` on.

    `places` [N, 3] int32: token of the row, page and place in the page that its keys and values belong to.
    """

    start: int
    places: Tensor


class Pages:
    """The page table of `slots` samples of at most `capacity` tokens, and the pages of each layer.

    `tables` [slots + 1, W] int32: the pages of each slot, in order; the last line is nobody's. `layers`: keys
    [P, groups, size, 16] and values [P, groups, 16, size] of each layer, views of one tensor.
    """

    def __init__(self, slots: int, capacity: int, num_layers: int, shape: Shape, dtype: torch.dtype) -> None:
        width = -(-capacity // TOKENS_A_PAGE)
        self.tables = torch.full((slots + 1, width), _SCRATCH, dtype=torch.int32)
        self._held: list[list[int]] = [[] for _ in range(slots)]
        number = 1 + slots * width
        self._users = [0] * number
        self._free = list(range(1, number))
        heapify(self._free)
        self._known: dict[_Beginning, int] = {}  # full pages of prompts by what they hold and what comes before them
        self._beginnings: dict[int, _Beginning] = {}
        # All layers of a page side by side: what is touched ends in one place, not once in each layer.
        both = untouched((number, num_layers, 2, prod(shape) * TOKENS_A_PAGE), dtype)
        keys, values = (shape.groups, shape.size, TOKENS_A_PAGE), (shape.groups, TOKENS_A_PAGE, shape.size)
        self.layers = [
            (both[:, layer, 0].unflatten(1, keys), both[:, layer, 1].unflatten(1, values))
            for layer in range(num_layers)
        ]

    def fill(self, ids: Sequence[int], slots: Sequence[int], row: int) -> Filled:
        """Take pages for the tokens `ids`, those that others hold shared; `row`: where in a row the rest will begin."""
        full = len(ids) // TOKENS_A_PAGE
        pages: list[int] = []
        known = 0
        for number in range(full):
            beginning = (pages[-1] if pages else _SCRATCH, tuple(ids[number * TOKENS_A_PAGE :][:TOKENS_A_PAGE]))
            page = self._known.get(beginning)
            if page is None:
                page = self._take()
                self._known[beginning], self._beginnings[page] = page, beginning
            else:
                known += 1
            pages.append(page)
        places = [_places(row, pages[known:])]
        row += (full - known) * TOKENS_A_PAGE
        for slot in slots:
            for page in pages:
                self._users[page] += 1
            self._set(slot, pages)
            if len(ids) > full * TOKENS_A_PAGE:
                self.extend(slot, len(ids) - 1)
                places.append(_places(row, self._held[slot][-1:])[: len(ids) % TOKENS_A_PAGE])
        return Filled(known * TOKENS_A_PAGE, torch.cat(places))

    def extend(self, slot: int, position: int) -> None:
        """See that `slot` has a page for `position`, which is at most one beyond what it holds."""
        held = self._held[slot]
        if position < len(held) * TOKENS_A_PAGE:
            return
        page = self._take()
        self._users[page] = 1
        self.tables[slot, len(held)] = page
        held.append(page)

    def places(self, positions: Sequence[int]) -> Tensor:
        """[N, 3] int32, as in `Filled`: of the first N slots, one token at each of these positions."""
        where = torch.tensor(positions)
        slots = torch.arange(len(positions))
        pages = self.tables[slots, where // TOKENS_A_PAGE]
        return torch.stack([slots.int(), pages, (where % TOKENS_A_PAGE).int()], 1)

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
                if page in self._beginnings:
                    del self._known[self._beginnings.pop(page)]
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
    held = mmap.mmap(-1, prod(shape) * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel may be built without them
            held.madvise(mmap.MADV_HUGEPAGE)  # one fault in two megabytes, not five hundred
    return torch.frombuffer(held, dtype=dtype).view(*shape)
