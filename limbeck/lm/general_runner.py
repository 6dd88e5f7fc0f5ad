"""Any decoder on any device: transformers' own modules, limbeck's attention, a static cache."""

from collections.abc import Iterator

import torch
from torch import Tensor

from limbeck.lm.attention import Cache, Decoding, Layout
from limbeck.lm.load import LanguageModel
from limbeck.lm.machine import on_device
from limbeck.lm.row_counts import RowCounts
from limbeck.lm.runner import Computed, Prefill
from limbeck.lm.span_attention import Span


class GeneralRunner:
    """Runs the network's own forward pass over packed rows."""

    def __init__(self, model: LanguageModel, slots: int, capacity: int) -> None:
        self._model = model
        self._cache = Cache(slots, capacity)

    def prefill(self, prompts: list[Prefill], counts: RowCounts) -> Computed:
        """Packed rows of whole prompts; one that is longer than usual has a row for itself."""
        computed = needed = 0
        for row in _rows(prompts, counts.usual):
            length = sum(len(prompt.ids) for prompt in row)
            number = length if length > counts.usual else counts.at_least(length)
            # What the row is longer than its prompts is a sequence that nobody reads.
            self._prefill([*row, Prefill((0,) * (number - length), ())])
            computed, needed = computed + number, needed + length
        return Computed(computed, needed)

    def _prefill(self, prompts: list[Prefill]) -> None:
        ids: list[int] = []
        positions: list[int] = []
        spans: list[Span] = []
        for prompt in prompts:
            if prompt.ids:
                spans.append(Span(len(ids), len(prompt.ids), slots=prompt.slots))
                ids += prompt.ids
                positions += range(len(prompt.ids))
        self._hidden(ids, torch.tensor(positions), Layout(spans, cache=self._cache))

    def decode(self, ids: list[int], positions: list[int], num_rows: int) -> Tensor:
        """One token a slot; rows beyond the slots write at the beginning of free ones."""
        idle = num_rows - len(ids)
        places = torch.tensor(positions + [0] * idle)
        decoding = Decoding(self._cache, on_device(places, self._model.device))
        hidden = self._hidden(ids + [0] * idle, places, Layout(decoding=decoding))
        logits: Tensor = self._model.head(hidden).float()
        return logits

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one slot to another."""
        self._cache.move(source, target, length)

    def release(self, slot: int) -> None:
        """Nothing to do: what a slot holds is written over."""

    def _hidden(self, ids: list[int], positions: Tensor, layout: Layout) -> Tensor:
        device = self._model.device
        return self._model.hidden(
            on_device(torch.tensor(ids), device)[None], on_device(positions, device)[None], layout
        )


def _rows(prompts: list[Prefill], most_tokens: int) -> Iterator[list[Prefill]]:
    """Prompts in their order, as many together as fit."""
    row: list[Prefill] = []
    for prompt in prompts:
        if row and sum(len(one.ids) for one in row) + len(prompt.ids) > most_tokens:
            yield row
            row = []
        row.append(prompt)
    if row:
        yield row
