"""Raw replies to pairs, strictly: exactly the JSON that was asked for, or a reason. Pure; guesses nothing."""

import json
from typing import Any, NamedTuple

from limbeck.likeness import same_answer

MAX_REPLY_CHARACTERS = 200_000  # a reply of 2,048 tokens has some 10,000; what is far beyond is not an answer
MAX_ANSWER_CHARACTERS = 50_000
MAX_PROMPT_CHARACTERS = 20_000


class ParsedPair(NamedTuple):
    """The two answers of a teacher's reply, as it wrote them."""

    preferred: str
    dispreferred: str


class ParseFailure(NamedTuple):
    """Why a reply is not what was asked for."""

    reason: str


class _RefusedError(Exception):
    """Raised inside the JSON decoder, which knows no other way out."""


def parse_pair(text: str) -> ParsedPair | ParseFailure:
    """Read `{"preferred": ..., "dispreferred": ...}`: both non-empty, not the same text, no other key."""
    values = _strings(text, ("preferred", "dispreferred"), MAX_ANSWER_CHARACTERS)
    if isinstance(values, ParseFailure):
        return values
    pair = ParsedPair(*values)
    if same_answer(pair.preferred, pair.dispreferred):
        return ParseFailure("equal answers")
    return pair


def parse_prompt(text: str) -> str | ParseFailure:
    """Read `{"prompt": ...}`: not empty, no other key."""
    values = _strings(text, ("prompt",), MAX_PROMPT_CHARACTERS)
    return values if isinstance(values, ParseFailure) else values[0]


def _strings(text: str, keys: tuple[str, ...], max_characters: int) -> list[str] | ParseFailure:
    value = _json_object(text)
    if isinstance(value, ParseFailure):
        return value
    if set(keys) - set(value):
        return ParseFailure("missing key")
    if set(value) - set(keys):
        return ParseFailure("extra key")
    strings = [value[key] for key in keys]
    for string in strings:
        if reason := _string_problem(string, max_characters):
            return ParseFailure(reason)
    return strings


def _string_problem(value: object, max_characters: int) -> str | None:
    if not isinstance(value, str):
        return "not a string"
    if not value.strip():
        return "empty answer"
    if len(value) > max_characters:
        return "answer too long"
    # JSON can spell half of a surrogate pair; no file takes it.
    return "not Unicode text" if any("\ud800" <= sign <= "\udfff" for sign in value) else None


def _json_object(text: str) -> dict[str, Any] | ParseFailure:
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
        return ParseFailure(str(error))
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
