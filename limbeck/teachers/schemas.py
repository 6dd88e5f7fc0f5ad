"""What a reply to each kind of request must be: the keys of its one JSON object, and its JSON schema. Pure."""

from collections.abc import Mapping
from typing import Any

from limbeck.api.json_replies import schema_format
from limbeck.recipe.pairs import Structured
from limbeck.teachers.protocol import RequestKind

MAX_ANSWER_CHARACTERS = 50_000
MAX_PROMPT_CHARACTERS = 20_000
PAIR_KEYS = ("preferred", "dispreferred")
PROMPT_KEYS = ("prompt",)
REVISED_KEYS = ("revised",)
KEYS: Mapping[RequestKind, tuple[str, ...]] = {
    "zero_shot": PAIR_KEYS,
    "few_shot": PAIR_KEYS,
    "rolling": PAIR_KEYS,
    "new_prompt": PROMPT_KEYS,
    "rolling_prompt": PROMPT_KEYS,
    "revise": REVISED_KEYS,
}  # `plain` is missing: its reply is text


def reply_schema(kind: RequestKind) -> dict[str, Any] | None:
    """The JSON schema of a reply: an object of exactly these keys, in this order, all strings. None for plain text."""
    keys = KEYS.get(kind)
    if keys is None:
        return None
    return {
        "type": "object",
        "properties": {key: {"type": "string"} for key in keys},
        "required": list(keys),
        "additionalProperties": False,
    }


def bounded_schema(kind: RequestKind) -> dict[str, Any] | None:
    """`reply_schema` with parsing.py's limits, for whoever guides a model by it; OpenAI's servers take none."""
    schema = reply_schema(kind)
    if schema is not None:
        for key in schema["required"]:
            most = MAX_PROMPT_CHARACTERS if key in PROMPT_KEYS else MAX_ANSWER_CHARACTERS
            schema["properties"][key] |= {"minLength": 1, "maxLength": most}
    return schema


def response_format(kind: RequestKind, structured: Structured) -> dict[str, Any] | None:
    """OpenAI's `response_format` for a request, or None where none is sent."""
    schema = reply_schema(kind)
    if schema is None or structured == "off":
        return None
    return schema_format("_".join(schema["required"]), schema, structured)
