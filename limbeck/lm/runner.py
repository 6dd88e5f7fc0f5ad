"""What the sampling engine asks of a model: prefill prompts, and compute the next hidden state of each sample."""

from typing import NamedTuple, Protocol

from torch import Tensor

from limbeck.lm.row_counts import RowCounts


class Prefill(NamedTuple):
    """Tokens of a prompt, all but its last, and the slots of the samples that continue it."""

    ids: tuple[int, ...]
    slots: tuple[int, ...]


class Computed(NamedTuple):
    """Rows that were computed, and those of them that were needed."""

    rows: int
    needed: int


class Runner(Protocol):
    """A model and its cache of keys and values, for a fixed number of slots."""

    def prefill(self, prompts: list[Prefill], counts: RowCounts) -> Computed:
        """Fill the cache of the prompts' slots, in passes of about the usual number of rows at most."""

    def decode(self, ids: list[int], positions: list[int], num_rows: int) -> Tensor:
        """Write one token of each of the first slots; returns fp32 logits [num_rows, V] of the next.

        Rows beyond the slots belong to no sample.
        """

    def move(self, source: int, target: int, length: int) -> None:
        """Give slot `source`, of `length` positions, to the free slot `target`; `source` is free afterwards."""

    def release(self, slot: int) -> None:
        """Free a slot."""
