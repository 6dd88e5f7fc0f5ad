"""Raw replies to pairs, strictly: exactly the JSON that was asked for, or a reason. Pure; guesses nothing.

The one exception is `plain`: an answer to a prompt as it is, which is no JSON.
"""

import json
from typing import Any, Literal, NamedTuple

from limbeck.likeness import same_answer
from limbeck.teachers.schemas import (
    MAX_ANSWER_CHARACTERS,
    MAX_PROMPT_CHARACTERS,
    PAIR_KEYS,
    PROMPT_KEYS,
    REVISED_KEYS,
)

MAX_REPLY_CHARACTERS = 200_000  # a reply of 2,048 tokens has some 10,000; what is far beyond is not an answer


class ParsedPair(NamedTuple):
    """The two answers of a teacher's reply, as it wrote them."""

    preferred: str
    dispreferred: str


ParseReason = Literal[
    "empty reply", "reply too long", "markdown", "not JSON", "duplicate key", "not an object", "missing key",
    "extra key", "not a string", "empty answer", "answer too long", "not Unicode text", "equal answers",
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
}


class ParseFailure(NamedTuple):
    """Why a reply is not what was asked for."""

    reason: ParseReason


class _RefusedError(Exception):
    """Raised inside the JSON decoder, which knows no other way out."""

    def __init__(self, reason: ParseReason) -> None:
        super().__init__(reason)
        self.reason: ParseReason = reason


def parse_pair(text: str) -> ParsedPair | ParseFailure:
    """Read `{"preferred": ..., "dispreferred": ...}`: both non-empty, not the same text, no other key."""
    values = _strings(text, PAIR_KEYS, MAX_ANSWER_CHARACTERS)
    if isinstance(values, ParseFailure):
        return values
    pair = ParsedPair(*values)
    if same_answer(pair.preferred, pair.dispreferred):
        return ParseFailure("equal answers")
    return pair


def parse_prompt(text: str) -> str | ParseFailure:
    """Read `{"prompt": ...}`: not empty, no other key."""
    values = _strings(text, PROMPT_KEYS, MAX_PROMPT_CHARACTERS)
    return values if isinstance(values, ParseFailure) else values[0]


def parse_revised(text: str, original: str) -> str | ParseFailure:
    """Read `{"revised": ...}`: not empty, not the reply that was to be corrected, no other key."""
    values = _strings(text, REVISED_KEYS, MAX_ANSWER_CHARACTERS)
    if isinstance(values, ParseFailure):
        return values
    return ParseFailure("equal answers") if same_answer(values[0], original) else values[0]


def parse_plain(text: str) -> str | ParseFailure:
    """Take a whole reply as the answer it is; white space around it is no part of it."""
    reason = _string_problem(text, MAX_ANSWER_CHARACTERS)
    return ParseFailure(reason) if reason else text.strip()


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


def _string_problem(value: object, max_characters: int) -> ParseReason | None:
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
