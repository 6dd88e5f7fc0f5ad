"""A model's reply read as strict JSON: one object and nothing around it, or the reason why it is none. Pure."""

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from limbeck.recipe.pairs import Structured

MAX_REPLY_CHARACTERS = 200_000  # a reply of 2,048 tokens has some 10,000; what is far beyond is not an answer

ParseReason = Literal[
    "empty reply", "reply too long", "markdown", "not JSON", "duplicate key", "not an object", "missing key",
    "extra key", "not a string", "empty answer", "answer too long", "not Unicode text", "equal answers",
    "unknown verdict",
]  # fmt: skip
# What a teacher is told of its reply when it is asked again.
SENTENCES: dict[ParseReason, str] = {
    "empty reply": "it was empty",
    "reply too long": "it was far too long",
    "markdown": "it stood in a markdown code fence",
    "not JSON": "it was not one valid JSON object with nothing before or after it",
    "duplicate key": "one key occurred twice",
    "not an object": "it was JSON, but not an object",
    "missing key": "a key was missing",
    "extra key": "it had a key that was not asked for",
    "not a string": "a value was not a string",
    "empty answer": "a value was empty",
    "answer too long": "a value was far too long",
    "not Unicode text": "a value held half of a Unicode character",
    "equal answers": "the answers did not differ",
    "unknown verdict": "its verdict was none of those that were offered",
}


class ParseFailure(NamedTuple):
    """Why a reply is not what was asked for."""

    reason: ParseReason


class _RefusedError(Exception):
    """Raised inside the JSON decoder, which knows no other way out."""

    def __init__(self, reason: ParseReason) -> None:
        super().__init__(reason)
        self.reason: ParseReason = reason


def string_problem(value: object, max_characters: int) -> ParseReason | None:
    """Why a value is no text of use; None where it is one."""
    if not isinstance(value, str):
        return "not a string"
    if not value.strip():
        return "empty answer"
    if len(value) > max_characters:
        return "answer too long"
    # JSON can spell half of a surrogate pair; no file takes it.
    return "not Unicode text" if any("\ud800" <= sign <= "\udfff" for sign in value) else None


def json_object(text: str) -> dict[str, Any] | ParseFailure:
    """Read the one JSON object that a reply is; only white space may stand around it."""
    stripped = text.strip(" \t\r\n")
    if not stripped:
        return ParseFailure("empty reply")
    if len(stripped) > MAX_REPLY_CHARACTERS:
        return ParseFailure("reply too long")
    if stripped.startswith("```"):
        return ParseFailure("markdown")
    try:
        value = json.loads(stripped, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except _RefusedError as error:
        return ParseFailure(error.reason)
    except (ValueError, RecursionError):
        return ParseFailure("not JSON")
    return value if isinstance(value, dict) else ParseFailure("not an object")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _RefusedError("duplicate key")
    return value


def _no_constant(_name: str) -> object:
    raise _RefusedError("not JSON")


def schema_format(name: str, schema: Mapping[str, Any], structured: Structured) -> dict[str, Any]:
    """OpenAI's `response_format` for a reply of `schema`; any JSON object where that is all that is wanted."""
    if structured == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}
