"""Responses that are there already, in the place of a model's replies: one side of a comparison, or the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from limbeck.errors import InputError
from limbeck.judges import Exchange
from limbeck.manifest import StageResult
from limbeck.records import PromptRow, Reply
from limbeck.responses import EXTRA, LATER, MISSING, REPEATED, match, read_responses
from limbeck.store import refuse_repeated, write_records

Retention = dict[str, float | int | None]  # see retaining.py
NOTHING: Retention = {"nats_per_token": None, "repetition_rate": None, "prompts": 0}  # given replies are of no chat
NAMED = 10  # rows of each sort that the manifest names; all are counted


class GivenReplies(NamedTuple):
    """Responses as replies to the prompts they answer, and what the manifest says of them."""

    exchanges: list[Exchange]
    result: StageResult


def given_replies(rows: Sequence[PromptRow], responses: Path, out: Path, *, every: bool) -> GivenReplies:
    """Write the responses to held-out prompts to `out`, as replies.

    `every`: further responses to a prompt are further samples, as a model's are; else the first counts. They answer
    first turns: what follows in a conversation depends on whose it is. How long they are in tokens is not
    known, and that they ended by themselves is taken on trust.

    Raises:
        InputError: where not one of them is to a held-out prompt.
    """
    refuse_repeated([row.id for row in rows], "prompt")
    given = read_responses(responses)
    found = match(rows, given)
    if not found.by_id:
        raise InputError(f"{responses}: none of its {len(given)} prompts is one of the {len(rows)} held-out prompts; "
                         "their text must be the same")  # fmt: skip
    answered = [row for row in rows if row.id in found.every]
    exchanges = [
        (row.model_copy(update={"follow_ups": ()}),
         Reply(prompt_id=row.id, sample_index=at, text=each.response, finish_reason="stop", num_tokens=None))
        for row in answered for at, each in enumerate(found.every[row.id] if every else found.every[row.id][:1])
    ]  # fmt: skip
    write_records(out, (reply for _, reply in exchanges))
    judged = {each.line for lines in found.every.values() for each in lines}
    named: dict[str, Sequence[str | int]] = {
        "ids_without_a_response": found.missing,
        "lines_repeated": [] if every else found.repeated,
        "lines_extra": [each.line for each in given if each.line not in judged] if every else found.extra,
    }
    counted = dict(zip((MISSING, REPEATED, EXTRA), map(len, named.values()), strict=True))
    counted |= {LATER: sum(len(row.follow_ups) for row in answered)}
    result = StageResult(
        counts_in={"prompts": len(rows), "responses": len(given)},
        counts_out={"replies": len(exchanges)},
        drops={reason: number for reason, number in counted.items() if number},
        facts={name: list(places[:NAMED]) for name, places in named.items() if places},
    )
    return GivenReplies(exchanges, result)
