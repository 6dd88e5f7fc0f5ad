"""Conversations whose later user turns are known beforehand: each is put after the model's own reply (MT-bench). Pure.

Every turn is a prompt row of its own, judged as the last turn of its conversation: turn 1 has the row's id, turn 2 is
`ID/turn-2`. So replies, judgements and comparisons are paired by id, as those of any prompt, though what stands
between the user's turns is another text for each model. Turns of one conversation are not independent: whoever
resamples takes or leaves a conversation whole (`Turn.conversation`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from limbeck.records import Message, PromptRow

_LATER_TURN = re.compile(r"/turn-(\d+)\Z")
OWN_REPLY = "(the model's own reply)"  # stands in a prompt that is shown once for all models


class Turn(NamedTuple):
    """A turn of a conversation: `conversation` is the id of the row that it comes from, `number` counts from 1."""

    conversation: str
    number: int
    row: PromptRow


def turn_id(conversation: str, number: int) -> str:
    """The id of a turn."""
    return conversation if number == 1 else f"{conversation}/turn-{number}"


def every_turn(rows: Iterable[PromptRow]) -> Iterator[Turn]:
    """Yield each row's turns; a row without follow-ups is its only one.

    Where a model's own words will stand, the prompt says `OWN_REPLY`.
    """
    for row in rows:
        for number in range(1, len(row.follow_ups) + 2):
            yield Turn(row.id, number, continued(row, [OWN_REPLY] * (number - 1)))


def continued(row: PromptRow, said: Sequence[str]) -> PromptRow:
    """The row's turn after the replies `said`: the whole conversation, which ends with the user's next words.

    A problem and a reference response belong to the first turn alone.

    Raises:
        ValueError: where the row has no turn after so many replies.
    """
    if len(said) > len(row.follow_ups):
        raise ValueError(f"{row.id} has {len(row.follow_ups)} follow-ups, not {len(said)}")
    if not said:
        return row.model_copy(update={"follow_ups": ()})
    turns = list(row.prompt)
    for reply, follow_up in zip(said, row.follow_ups, strict=False):
        turns += [Message(role="assistant", content=reply), Message(role="user", content=follow_up)]
    return PromptRow(id=turn_id(row.id, len(said) + 1), prompt=tuple(turns), source=row.source)


def conversation_of(prompt_id: str) -> str:
    """The id of the conversation that a turn belongs to, by which turns are resampled together."""
    return _LATER_TURN.sub("", prompt_id)


def turn_number(prompt_id: str) -> int:
    """Which turn of its conversation a prompt is, from 1."""
    found = _LATER_TURN.search(prompt_id)
    return int(found[1]) if found else 1
