"""Somebody else's responses in the place of a model's replies: the other side of a leaderboard's win rate."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from limbeck.errors import InputError
from limbeck.judges import Exchange
from limbeck.manifest import StageResult
from limbeck.records import PromptRow, Reply
from limbeck.responses import EXTRA, MISSING, REPEATED, match, read_responses
from limbeck.store import refuse_repeated, write_records

NAMED = 10  # rows of each sort that the manifest names; all are counted


class GivenReplies(NamedTuple):
    """Responses as replies to the prompts they answer, and what the manifest says of them."""

    exchanges: list[Exchange]
    result: StageResult


def given_replies(rows: Sequence[PromptRow], responses: Path, out: Path) -> GivenReplies:
    """Write the responses to held-out prompts to `out`, as replies.

    They answer first turns: what follows in a conversation depends on whose it is. How long they are in tokens is not
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
    exchanges = [
        (row.model_copy(update={"follow_ups": ()}),
         Reply(prompt_id=row.id, text=found.by_id[row.id], finish_reason="stop", num_tokens=None))
        for row in rows if row.id in found.by_id
    ]  # fmt: skip
    write_records(out, (reply for _, reply in exchanges))
    counted = {MISSING: len(found.missing), REPEATED: len(found.repeated), EXTRA: len(found.extra)}
    named: dict[str, Sequence[str | int]] = {
        "ids_without_a_response": found.missing,
        "lines_repeated": found.repeated,
        "lines_extra": found.extra,
    }
    result = StageResult(
        counts_in={"prompts": len(rows), "responses": len(given)},
        counts_out={"replies": len(exchanges)},
        drops={reason: number for reason, number in counted.items() if number},
        facts={name: list(places[:NAMED]) for name, places in named.items() if places},
    )
    return GivenReplies(exchanges, result)
