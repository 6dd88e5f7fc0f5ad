"""What a pairwise judge is shown and what its reply means, as values. Pure."""

import hashlib
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

from limbeck.api.json_replies import SENTENCES, ParseFailure, json_object, string_problem
from limbeck.api.template_text import Turns, data, filled, plain, read_turns
from limbeck.records import Message, PromptRow

Better = Literal["A", "B", "tie"]
BETTER: tuple[Better, ...] = ("A", "B", "tie")
KEYS = ("reason", "better")
MAX_REASON_CHARACTERS = 4_000
_MOST_GUIDED = 600  # four sentences; a small model that is guided would go on to the limit
_BY_WORD: dict[str, Better] = {word.casefold(): word for word in BETTER}


class Template(NamedTuple):
    """The packaged template. `id`: its name and the first 8 hex digits of its text's SHA-256."""

    id: str
    turns: Turns


@cache
def template() -> Template:
    """Read it, once."""
    text = (resources.files("limbeck.judges") / "templates" / "pairwise.txt").read_text(encoding="utf-8")
    return Template(f"pairwise@{hashlib.sha256(text.encode()).hexdigest()[:8]}", read_turns(text, "pairwise.txt"))


def question(row: PromptRow, first: str, second: str) -> tuple[Message, ...]:
    """Ask which of two replies to `row` is better: `first` is shown as A, `second` as B."""
    values = {"conversation": data(plain(row.prompt)), "reply_a": data(first), "reply_b": data(second)}
    return filled(template().turns, values)


def schema() -> dict[str, Any]:
    """The JSON schema of a verdict: the reason first, so that it is thought before it is said."""
    return {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "better": {"type": "string", "enum": list(BETTER)}},
        "required": list(KEYS),
        "additionalProperties": False,
    }


def bounded_schema() -> dict[str, Any]:
    """The same with a bound on the reason, for whoever guides a model by it; OpenAI's servers take none."""
    bounded = schema()
    bounded["properties"]["reason"] |= {"minLength": 1, "maxLength": _MOST_GUIDED}
    return bounded


def parse_verdict(text: str, *, bare: bool = False) -> Better | ParseFailure:
    """Read `{"reason": ..., "better": "A" | "B" | "tie"}`: both keys, no other, and a reason of some words.

    `bare`: nothing may stand around it.
    """
    value = json_object(text, KEYS, bare=bare)
    if isinstance(value, ParseFailure):
        return value
    if reason := string_problem(value["reason"], MAX_REASON_CHARACTERS):
        return ParseFailure(reason)
    if not isinstance(value["better"], str):
        return ParseFailure("not a string")
    return _BY_WORD.get(value["better"].strip().casefold()) or ParseFailure("unknown verdict")


def ask_again(asked: tuple[Message, ...], reply: str, failure: ParseFailure) -> tuple[Message, ...]:
    """The same question once more, after the judge's own reply and a sentence that says what was wrong with it."""
    complaint = (
        f"That reply cannot be used: {SENTENCES[failure.reason]}. Judge the same two replies again: one JSON object "
        'and nothing else, with exactly the keys "reason", a short non-empty string, and "better": "A", "B" or "tie".'
    )
    return (*asked, Message(role="assistant", content=reply), Message(role="user", content=complaint))
