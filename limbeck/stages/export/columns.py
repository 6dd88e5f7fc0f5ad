"""A pair as one row: TRL's conversational preference format with an explicit prompt, then provenance, flat. Pure.

TRL reads `prompt`, `chosen` and `rejected` and leaves the other columns alone; none of them has a name that it gives a
meaning to (`tools`, `images`, `chat_template_kwargs`, `ref_chosen_logps` ...).
"""

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from limbeck.records import Message, Pair

TURNS, TEXT, SCORES, FLAG = "turns", "text", "scores", "flag"  # the types there are


class Column(NamedTuple):
    """One column: its type, what it holds in words, and how it is filled."""

    name: str
    type: str
    meaning: str
    value: Callable[[Pair], Any]


def _turns(turns: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _scores(pair: Pair) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in sorted(pair.scores.items())]


def _family(pair: Pair) -> str | None:
    return pair.problem.family if pair.problem else None


def _problem(pair: Pair) -> str | None:
    return pair.problem.model_dump_json() if pair.problem else None


COLUMNS = (
    Column("prompt", TURNS, "the conversation, ending with a user turn", lambda pair: _turns(pair.prompt)),
    Column("chosen", TURNS, "one assistant turn, the better answer", lambda pair: _answer(pair.chosen)),
    Column("rejected", TURNS, "one assistant turn, the worse answer", lambda pair: _answer(pair.rejected)),
    Column("id", TEXT, "name of the pair", lambda pair: pair.id),
    Column("source", TEXT, "kind of pair", lambda pair: pair.source),
    Column("family", TEXT, "family of the verifiable problem behind the prompt", _family),
    Column("teacher", TEXT, "who wrote the answers", lambda pair: pair.teacher),
    Column("template", TEXT, "request template and first digits of its SHA-256", lambda pair: pair.template),
    Column("request_key", TEXT, "key of the stored raw reply", lambda pair: pair.request_key),
    Column("mined_from", TEXT, "ids of the weak prompts behind it", lambda pair: pair.mined_from),
    Column("placed_after", TEXT, "id of the human pair it follows in the stream", lambda pair: pair.placed_after),
    Column("scores", SCORES, "what judges say of it, by name", _scores),
    Column(
        "swapped",
        FLAG,
        "whether screening exchanged chosen and rejected, as the task's scorer has it",
        lambda pair: pair.swapped,
    ),
    Column("problem", TEXT, "the verifiable problem as JSON, its answer included", _problem),
    Column("reference_response", TEXT, "the source's own good answer", lambda pair: pair.reference_response),
)
REASON = "reason"


def row_of(pair: Pair, reason: str | None = None) -> dict[str, Any]:
    """The row of a pair; of a dropped one with the reason as its last column."""
    row = {column.name: column.value(pair) for column in COLUMNS}
    return row if reason is None else {**row, REASON: reason}


def arrow_schema(arrow: Any, *, with_reason: bool) -> Any:
    """The schema, written out: an inferred one would change where every row of a column is empty."""
    types = {
        TURNS: arrow.list_(arrow.struct([("role", arrow.string()), ("content", arrow.string())])),
        TEXT: arrow.string(),
        # Not a struct of the scores' names: its fields would differ from run to run, and be none where no judge spoke.
        SCORES: arrow.list_(arrow.struct([("name", arrow.string()), ("value", arrow.float64())])),
        FLAG: arrow.bool_(),
    }
    fields = [(column.name, types[column.type]) for column in COLUMNS]
    return arrow.schema([*fields, (REASON, types[TEXT])] if with_reason else fields)


def json_line(row: dict[str, Any]) -> str:
    """The row as a line of strict JSON: a score that is not finite, which JSON cannot say, is null."""
    scores = [score if math.isfinite(score["value"]) else {**score, "value": None} for score in row["scores"]]
    return json.dumps({**row, "scores": scores}, ensure_ascii=False, allow_nan=False) + "\n"
