"""A model's reply read as one JSON object of exactly the keys that were asked for, or the reason why it is none. Pure.

What a model puts around it (a code fence, its thoughts, a sentence) is left away where that is no guess.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from limbeck.recipe.pairs import Structured

MAX_REPLY_CHARACTERS = 200_000  # a reply of 2,048 tokens has some 10,000; what is far beyond is not an answer
_SPACE = " \t\r\n"
# Where models say that their thoughts begin and end, as it comes where no server parts them off: in tags of such a
# name, with or without bars and attributes, in brackets (Mistral's), in Gemma's signs, in channels (gpt-oss's; the last
# is `final`; where special tokens are left out the first is `analysis` with no blank after it, the last
# `assistantfinal`). What is tried at each sign is bounded, so that time grows as the text does.
_MARK = re.compile(
    r"<(?P<head>[|/\s]{0,4})(?=[\w:-]{0,40}(?:think|thought|reason|reflection|analysis|scratchpad))"
    r"(?P<name>[\w:-]{5,60})(?P<rest>[|/\s][^][<>{}]{0,200})?>"
    r"|\[/?think(?:ing)?\]|◁/?think▷|<\|channel>|<channel\|>|<unused9[45]>"
    r"|(?:<\|channel\|>\s*|assistant)final\s*(?:<\|constrain\|>\s*\w+\s*)?(?:<\|message\|>)?|<\|channel\|>"
    r'|\A\s*(?:assistant)?(?-i:analysis(?=[A-Z0-9{"]))',
    re.IGNORECASE | re.ASCII,
)
_BEGINNING_OF = {"<channel|>": "<|channel>", "<unused95>": "<unused94>"}
_SIDES = ("start", "begin", "end", "of")  # words of a tag's name that say which of two it is: END_THINKING

ParseReason = Literal[
    "empty reply", "reply too long", "markdown", "not JSON", "duplicate key", "not an object", "missing key",
    "extra key", "not a string", "empty answer", "answer too long", "not Unicode text", "equal answers",
    "unknown verdict", "endless thoughts",
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
    "endless thoughts": "its thoughts did not end, and no answer followed them",
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


def json_object(text: str, keys: Collection[str], *, bare: bool = False) -> dict[str, Any] | ParseFailure:
    """Read the one JSON object that a reply is, of exactly `keys`; its values are not looked at.

    `bare`: only white space may stand around it, as must be where a reply was cut: what is there of it may be a draft.
    """
    stripped = text.strip(_SPACE)
    if len(stripped) > MAX_REPLY_CHARACTERS:
        return ParseFailure("reply too long")
    stripped = stripped if bare else _after_thoughts(stripped).strip(_SPACE)
    if not stripped:
        return ParseFailure("empty reply")
    value = ParseFailure("markdown") if stripped.startswith("```") else _decoded(stripped)
    if isinstance(value, ParseFailure):
        around = None if bare or value.reason not in ("markdown", "not JSON") else _taken_out(stripped, keys)
        return value if around is None else around
    if not isinstance(value, dict):
        return ParseFailure("not an object")
    if set(keys) - set(value):
        return ParseFailure("missing key")
    return ParseFailure("extra key") if set(value) - set(keys) else value


def _taken_out(text: str, keys: Collection[str]) -> dict[str, Any] | None:
    """The object of exactly `keys` around which other text stands; None where there is none, or may be another."""
    for body in _bodies(text):
        value = _only_object(body)
        if value is not None and set(value) == set(keys):
            return value
    return None


class _Mark(NamedTuple):
    """Where thoughts begin or end, in which way of marking them, and what part of the text says so."""

    way: str
    ends: bool
    start: int
    stop: int


def _marks(text: str) -> Iterator[_Mark]:
    for found in _MARK.finditer(text):
        yield _tag(found) if found["name"] else _sign(found)


def _tag(found: re.Match[str]) -> _Mark:
    """An end has a slash, says so in its name (`<|end_of_thought|>`), or has its only bar behind (`<think|>`)."""
    head, rest = found["head"], (found["rest"] or "").rstrip()
    words = re.split("[_:-]+", found["name"].lower())
    bar_behind = rest.endswith("|")
    ends = "/" in head or rest.endswith("/") or "end" in words or (bar_behind and "|" not in head)
    bar = "|" if bar_behind or "|" in head else ""
    name = " ".join(word for word in words if word not in _SIDES)
    return _Mark(f"<{bar}{name}>", ends, *found.span())


def _sign(found: re.Match[str]) -> _Mark:
    mark = found.group().lower()
    if any(part in mark for part in ("<|channel|>", "final", "analysis")):
        return _Mark("channel", "final" in mark, *found.span())
    return _Mark(_BEGINNING_OF.get(mark, mark.replace("/", "")), "/" in mark or mark in _BEGINNING_OF, *found.span())


def _all_end(text: str) -> bool:
    """Whether no thoughts that begin in `text` go on after it, in any way of marking them."""
    return all({mark.way: mark.ends for mark in _marks(text)}.values())


def _after_thoughts(text: str) -> str:
    """A reply without the thoughts that it begins with, unless they never end."""
    answer, begun = 0, None
    for mark in _marks(text):
        if begun is None:
            if mark.ends or text[answer : mark.start].strip():
                break
            begun = mark.way
        elif mark.ends and mark.way == begun:
            answer, begun = mark.stop, None
    return text[answer:]


def answer_in(text: str) -> str | ParseFailure:
    """A reply in words without the thoughts before it, whose end may be all that is marked of them."""
    if len(text) > MAX_REPLY_CHARACTERS:
        return ParseFailure("reply too long")
    *_, body = _bodies(_after_thoughts(text))
    first = next(_marks(body), None)
    if first is not None and not first.ends and not body[: first.start].strip():
        return ParseFailure("endless thoughts")
    return body.strip()


def _bodies(text: str) -> Iterator[str]:
    """What an object may be taken out of: a reply, or what follows the one end of thoughts in it.

    Chat templates that end in <think> leave a reply that has only the other tag.
    """
    yield text
    ends = [mark for mark in _marks(text) if mark.ends]
    if len(ends) == 1 and _all_end(text[: ends[0].stop]):
        yield text[ends[0].stop :]


def _only_object(text: str) -> dict[str, Any] | None:
    """What stands from the first brace to the last, decoded once: so a second object, whole or broken, is a refusal."""
    start, end = text.find("{"), text.rfind("}") + 1
    before, after = text[: max(start, 0)].rstrip(), text[end:].lstrip()
    if start < 0 or "}" in before or "{" in after:
        return None
    if before.endswith(("[", ",")) or after.startswith(("]", ",")):
        return None  # one of a list's
    if not _all_end(before) or _MARK.search(after):
        return None  # a draft among the thoughts
    value = _decoded(text[start:end])
    return value if isinstance(value, dict) else None


def _decoded(text: str) -> object:
    """The value that `text` is as strict JSON, or a `ParseFailure`."""
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except _RefusedError as error:
        return ParseFailure(error.reason)
    except (ValueError, RecursionError):
        return ParseFailure("not JSON")


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
