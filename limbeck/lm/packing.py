"""Rows of token ids in, packed rows out: no pad token, each sequence seeing only itself.

A pair is laid out as prompt, chosen, rejected: the prompt is computed once, both branches see it, positions restart at
the prompt's length, and the prompt's last hidden state predicts the first token of both. The last token of a response
is a target only, never an input. Pure: ids in, tensors out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.lm.attention import Layout
from limbeck.lm.machine import on_device
from limbeck.lm.scope import Part
from limbeck.lm.span_attention import Span


@dataclass(frozen=True)
class Item:
    """A prompt and one response (SFT) or two (a pair: chosen, rejected), as token ids; none of them empty.

    `source`: of the record, what metrics are split by; it decides nothing. `counted`: of a pair, the part of
    each response that its log-probabilities are summed over; None: all of it.
    """

    id: str
    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    source: str = ""
    counted: tuple[Part, ...] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed: the prompt once, each response without its last token."""
        return len(self.prompt) + sum(len(response) - 1 for response in self.responses)

    @property
    def num_targets(self) -> int:
        """Response tokens, end-of-turn included."""
        return sum(len(response) for response in self.responses)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Of each response what a pair's log-probabilities are summed over."""
        return self.counted or tuple(Part(0, len(response)) for response in self.responses)


@dataclass(frozen=True)
class PackedRow:
    """Items packed into one row of T tokens with N targets in S sequences (a response each, in the items' order).

    `input_ids`, `position_ids`: [1, T]. `predict_at`: [N] index of the hidden state that predicts each target.
    `targets`: [N] token ids. `owner`: [N] sequence of each target. `counts`: [N] bool, whether it is among those that
    a pair's log-probabilities are summed over.
    """

    ids: tuple[str, ...]
    input_ids: Tensor
    position_ids: Tensor
    predict_at: Tensor
    targets: Tensor
    owner: Tensor
    counts: Tensor
    num_sequences: int
    layout: Layout


def pack(items: Sequence[Item], device: torch.device) -> PackedRow:
    """Pack `items` into one row."""
    ids: list[int] = []
    positions: list[int] = []
    predict_at: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    counts: list[int] = []
    spans: list[Span] = []
    num_sequences = 0
    for item in items:
        prompt_start, prompt_length = len(ids), len(item.prompt)
        alone = len(item.responses) == 1
        if not alone:
            spans.append(Span(prompt_start, prompt_length))
        ids += item.prompt
        positions += range(prompt_length)
        for response, part in zip(item.responses, item.parts, strict=True):
            start, length = len(ids), len(response) - 1
            ids += response[:-1]
            positions += range(prompt_length, prompt_length + length)
            predict_at += [prompt_start + prompt_length - 1, *range(start, start + length)]
            targets += response
            owner += [num_sequences] * len(response)
            counts += [int(part.start <= at < part.end) for at in range(len(response))]
            num_sequences += 1
            if alone:
                spans.append(Span(prompt_start, prompt_length + length))
            elif length:
                spans.append(Span(start, length, prompt_start, prompt_length))

    def tensor(values: list[int]) -> Tensor:
        return on_device(torch.tensor(values, dtype=torch.int64), device)

    return PackedRow(
        ids=tuple(item.id for item in items),
        input_ids=tensor(ids)[None],
        position_ids=tensor(positions)[None],
        predict_at=tensor(predict_at),
        targets=tensor(targets),
        owner=tensor(owner),
        counts=tensor(counts).bool(),
        num_sequences=num_sequences,
        layout=Layout(spans),
    )


def under_budget(items: Sequence[Item], max_tokens: int) -> Iterator[list[Item]]:
    """Split `items`, in order and whole, into runs of at most `max_tokens` computed tokens; a longer one goes alone."""
    run: list[Item] = []
    tokens = 0
    for item in items:
        if run and tokens + item.num_tokens > max_tokens:
            yield run
            run, tokens = [], 0
        run.append(item)
        tokens += item.num_tokens
    if run:
        yield run
