"""Any decoder on any device: transformers' own modules, limbeck's attention, a static cache."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from limbeck.lm.attention import Cache, Decoding, Layout
from limbeck.lm.load import LanguageModel
from limbeck.lm.machine import on_device
from limbeck.lm.recorded_steps import RecordedSteps
from limbeck.lm.row_counts import RowCounts
from limbeck.lm.runner import Computed, Prefill
from limbeck.lm.span_attention import Span


class GeneralRunner:
    """Runs the network's own forward pass over packed rows."""

    def __init__(self, model: LanguageModel, slots: int, capacity: int) -> None:
        self._model = model
        self._cache = Cache(slots, capacity)
        compute = partial(_logits, model, self._cache)
        self._compute: Callable[[Tensor, int], Tensor] = (
            RecordedSteps(compute) if model.device.type == "cuda" else compute
        )

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
        rows = on_device(torch.tensor([ids, positions]), self._model.device)
        self._model.hidden(rows[:1], rows[1:], Layout(spans, cache=self._cache))

    def decode(self, ids: list[int], positions: list[int], num_rows: int) -> Tensor:
        """One token a slot; rows beyond the slots write at the beginning of free ones."""
        idle = [0] * (num_rows - len(ids))
        rows = torch.tensor([ids + idle, positions + idle])
        # The longest slot decides how much is read.
        return self._compute(on_device(rows, self._model.device), self._cache.seen(max(positions) + 1))

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one slot to another."""
        self._cache.move(source, target, length)

    def release(self, slot: int) -> None:
        """Nothing to do: what a slot holds is written over."""


def _logits(model: LanguageModel, cache: Cache, rows: Tensor, seen: int) -> Tensor:
    """Of ids and positions, [2, R] -> [R, V] in fp32."""
    layout = Layout(decoding=Decoding(cache, rows[1], seen))
    logits: Tensor = model.head(model.hidden(rows[:1], rows[1:], layout)).float()
    return logits


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
