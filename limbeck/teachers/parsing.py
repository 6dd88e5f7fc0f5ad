"""Raw replies to pairs: exactly the JSON object that was asked for, or a reason. Pure; guesses nothing.

The one exception is `plain`: an answer to a prompt as it is, which is no JSON.
"""

from typing import NamedTuple

from limbeck.api.json_replies import ParseFailure, answer_in, json_object, string_problem
from limbeck.likeness import same_answer
from limbeck.teachers.schemas import (
    MAX_ANSWER_CHARACTERS,
    MAX_PROMPT_CHARACTERS,
    PAIR_KEYS,
    PROMPT_KEYS,
    REVISED_KEYS,
)


class ParsedPair(NamedTuple):
    """The two answers of a teacher's reply, as it wrote them."""

    preferred: str
    dispreferred: str


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
    """Take a reply as the answer it is; white space around it and thoughts before it are no part of it."""
    answer = answer_in(text)
    if isinstance(answer, ParseFailure):
        return answer
    reason = string_problem(answer, MAX_ANSWER_CHARACTERS)
    return ParseFailure(reason) if reason else answer


def _strings(text: str, keys: tuple[str, ...], max_characters: int) -> list[str] | ParseFailure:
    value = json_object(text, keys)
    if isinstance(value, ParseFailure):
        return value
    strings = [value[key] for key in keys]
    for string in strings:
        if reason := string_problem(string, max_characters):
            return ParseFailure(reason)
    return strings
