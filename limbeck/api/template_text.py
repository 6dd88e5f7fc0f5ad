"""A template's two turns, and data put into it. Prompt text cannot alter a template, for two reasons.

Substitution is a single pass over the template: what is put in is never looked at again, so braces in it are plain
characters. And data stands between tags as one line of JSON in which `<` and `>` are written as escapes: a closing tag
cannot occur inside, whatever the text says, and no quote or line break ends the string early. Pure.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from limbeck.errors import InputError
from limbeck.records import Message

PLACEHOLDER = re.compile(r"\{\{([a-z_]+)\}\}")
_TURN = re.compile(r"^=== (\w+) ===\n", re.MULTILINE)
_UNSAFE = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>\u0085\u2028\u2029"}  # tags; line breaks JSON lets through


class Turns(NamedTuple):
    """What a template says as the system and as the user; places for data stand in the second only."""

    system: str
    user: str


def read_turns(text: str, where: str) -> Turns:
    """Split a template at the lines `=== system ===` and `=== user ===`; `where` names it in errors.

    Raises:
        InputError: it has other turns than the two, something before them, or an empty one.
    """
    before, *turns = _TURN.split(text)
    if before.strip() or turns[::2] != ["system", "user"]:
        found = " and ".join(turns[::2]) or "none"
        first = " after other text" if before.strip() else ""
        raise InputError(f"{where}: a template has two turns, under the lines `=== system ===` and `=== user ===`, "
                         f"and nothing before them; found {found}{first}")  # fmt: skip
    system, user = (turn.strip() for turn in turns[1::2])
    if not (system and user):
        raise InputError(f"{where}: the {'user' if system else 'system'} turn is empty")
    return Turns(system, user)


def filled(turns: Turns, values: Mapping[str, str]) -> tuple[Message, ...]:
    """Fill a template in one pass. Every placeholder has a value (KeyError where one has none)."""
    user = PLACEHOLDER.sub(lambda hole: values[hole[1]], turns.user)
    return Message(role="system", content=turns.system), Message(role="user", content=user)


def data(value: object) -> str:
    """JSON on one line that contains no `<`, no `>` and no line break of any kind."""
    return json.dumps(value, ensure_ascii=False).translate(_UNSAFE)


def plain(prompt: Sequence[Message]) -> object:
    """A prompt as data: its text where it is one user turn, else the list of its turns."""
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return [message.model_dump() for message in prompt]
