"""Conversations as data sets write them to messages: roles mapped, types checked, order checked. Pure.

What is of the wrong type is an `InputError` (somebody has to look at the file); what is well-formed and of no use is an
`UnusableRowError` (counted by its reason).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.errors import InputError
from limbeck.records import Message, Role

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
HH_HUMAN, HH_ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_HH_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


class UnusableRowError(Exception):
    """A well-formed row that nothing can be made of; the message is the reason it is counted under."""


def text(row: Mapping[str, Any], field: str, *, within: str = "") -> str:
    """The text in `field`; `within` says in what it stands."""
    value = row[field]
    if not isinstance(value, str):
        raise InputError(f"the field '{within}{field}' should hold text, but holds {_called(value)}")
    if not _is_unicode(value):
        raise UnusableRowError("text that is no valid Unicode")
    return value


def messages(row: Mapping[str, Any], field: str) -> tuple[Message, ...]:
    """The list of turns in `field`: `role` and `content`, or ShareGPT's `from` and `value`."""
    value = row[field]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(f"the field '{field}' should hold a list of turns, but holds {_called(value)}")
    turns = [message(value, place, within=f"{field}.") for place in range(len(value))]
    # An empty system turn says nothing, and many data sets put one before every conversation.
    return tuple(turn for turn in turns if turn.role != "system" or turn.content.strip())


def message(row: Any, place: str | int, *, within: str = "") -> Message:
    """The one turn at `place` of a row or list."""
    value, where = row[place], f"{within}{place}"
    if not isinstance(value, Mapping):
        raise InputError(f"the field '{where}' should hold a turn, but holds {_called(value)}")
    keys = ("from", "value") if "role" not in value and "from" in value else ("role", "content")
    missing = [key for key in keys if key not in value]
    if missing:
        raise InputError(f"the field '{where}.{missing[0]}' is missing")
    role = _ROLES.get(text(value, keys[0], within=f"{where}."))
    if role is None:
        raise UnusableRowError("a turn of another role than system, user or assistant")
    return Message(role=role, content=_content(value, keys[1], within=f"{where}."))


def _content(turn: Mapping[str, Any], field: str, *, within: str) -> str:
    """A turn's text: as it stands, or joined from parts as chat templates join them; null is none."""
    value = turn[field]
    if value is None:  # so the turns that call a tool are written
        return ""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return text(turn, field, within=within)
    if not all(isinstance(part, Mapping) and _is_text(part) for part in value):
        raise UnusableRowError("a turn with parts that are no text")
    return "".join(text(part, "text", within=f"{within}{field}.{place}.") for place, part in enumerate(value))


def _is_text(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "text" and isinstance(part.get("text"), str)


def hh_messages(row: Mapping[str, Any], field: str) -> tuple[Message, ...]:
    r"""HH-RLHF's conversation in one text: `\n\nHuman: ... \n\nAssistant: ...`."""
    before, *turns = _HH_TURN.split(text(row, field))
    if before.strip() or not turns:
        raise InputError(f"the field '{field}' should begin with '\\n\\nHuman:' where there is no field 'prompt'")
    pairs = zip(turns[::2], turns[1::2], strict=True)
    return tuple(Message(role="user" if who == "Human" else "assistant", content=said.strip()) for who, said in pairs)


def check_prompt(prompt: Sequence[Message]) -> None:
    """Refuse what chat templates refuse: after a system turn, user and assistant alternate; the user has the last word.

    Raises:
        UnusableRowError: with the reason.
    """
    spoken = prompt[1:] if prompt and prompt[0].role == "system" else prompt
    if not any(turn.role == "user" for turn in spoken):
        raise UnusableRowError("no user turn")
    if any(not turn.content.strip() for turn in spoken):
        raise UnusableRowError("empty turn")
    if any(turn.role != ("assistant" if place % 2 else "user") for place, turn in enumerate(spoken)):
        raise UnusableRowError("turns do not alternate between user and assistant")
    if spoken[-1].role != "user":
        raise UnusableRowError("prompt does not end with a user turn")


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair, which no file and no tokenizer takes
        return False
    return True


def _called(value: object) -> str:
    names = {"NoneType": "null", "dict": "an object", "list": "a list", "str": "text"}
    name = type(value).__name__
    return names.get(name, name)
