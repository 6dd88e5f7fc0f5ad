"""Templates to messages. Prompt text cannot alter a template, for two reasons.

Substitution is a single pass over the template: what is put in is never looked at again, so braces in it are plain
characters. And data stands between tags as one line of JSON in which `<` and `>` are written as escapes: a closing tag
cannot occur inside, whatever the text says, and no quote or line break ends the string early.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

from limbeck.records import Message, Pair, PromptRow
from limbeck.teachers.protocol import NewPromptRow, Request, RequestKind

_PLACEHOLDER = re.compile(r"\{\{([a-z_]+)\}\}")
_TURNS = re.compile(r"^=== (system|user) ===\n", re.MULTILINE)
_UNSAFE = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>\u0085\u2028\u2029"}  # tags; line breaks JSON lets through


def zero_shot_request(row: PromptRow) -> Request:
    """Ask for a pair on `row`, without examples."""
    return Request("zero_shot", row, fill("zero_shot", {"prompt": data(_plain(row.prompt))}))


def few_shot_request(row: PromptRow, examples: Sequence[Pair]) -> Request:
    """Ask for a pair on `row`, shown `examples`."""
    shown = "\n".join(f"<example>{data(_example(pair))}</example>" for pair in examples)
    values = {"prompt": data(_plain(row.prompt)), "examples": shown or "(no examples this time)"}
    return Request("few_shot", row, fill("few_shot", values))


def new_prompt_request(row: NewPromptRow, sample_index: int) -> Request:
    """Ask for one new prompt like the weak ones of `row`."""
    shown = "\n".join(f"<weak_prompt>{data(_plain(weak.prompt))}</weak_prompt>" for weak in row.weak)
    return Request("new_prompt", row, fill("new_prompt", {"weak_prompts": shown}), sample_index)


def data(value: object) -> str:
    """JSON on one line that contains no `<`, no `>` and no line break of any kind."""
    return json.dumps(value, ensure_ascii=False).translate(_UNSAFE)


def fill(kind: RequestKind, values: Mapping[str, str]) -> tuple[Message, ...]:
    """Fill a template in one pass. Every placeholder has a value (KeyError where one has none)."""
    turns = _turns(_text(kind))
    return tuple(
        turn.model_copy(update={"content": _PLACEHOLDER.sub(lambda hole: values[hole[1]], turn.content)})
        for turn in turns
    )


def template_id(kind: RequestKind) -> str:
    """Name and first 8 hex digits of the template text's SHA-256, for provenance: `zero_shot@1a2b3c4d`."""
    return f"{kind}@{hashlib.sha256(_text(kind).encode()).hexdigest()[:8]}"


@cache
def _text(kind: RequestKind) -> str:
    return (resources.files("limbeck.teachers") / "templates" / f"{kind}.txt").read_text(encoding="utf-8")


def _turns(template: str) -> tuple[Message, Message]:
    _, _, system, _, user = _TURNS.split(template)
    return Message(role="system", content=system.strip()), Message(role="user", content=user.strip())


def _plain(prompt: Sequence[Message]) -> object:
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return [message.model_dump() for message in prompt]


def _example(pair: Pair) -> dict[str, object]:
    return {"prompt": _plain(pair.prompt), "preferred": pair.chosen, "dispreferred": pair.rejected}
