"""What a reply to each kind of request must be, as JSON schemas. Pure.

The same that parsing.py reads: exactly these keys, with strings that are neither empty nor beyond its limits.
"""

from typing import Any

from limbeck.teachers.parsing import MAX_ANSWER_CHARACTERS, MAX_PROMPT_CHARACTERS
from limbeck.teachers.protocol import RequestKind

_KEYS: dict[str, dict[str, int]] = {
    "zero_shot": {"preferred": MAX_ANSWER_CHARACTERS, "dispreferred": MAX_ANSWER_CHARACTERS},
    "few_shot": {"preferred": MAX_ANSWER_CHARACTERS, "dispreferred": MAX_ANSWER_CHARACTERS},
    "new_prompt": {"prompt": MAX_PROMPT_CHARACTERS},
    "revise": {"revised": MAX_ANSWER_CHARACTERS},
}


def schema_for(kind: RequestKind) -> dict[str, Any] | None:
    """The schema of replies to requests of `kind`, or None where they are plain text."""
    keys = _KEYS.get(kind)
    if keys is None:
        return None
    return {
        "type": "object",
        "properties": {key: {"type": "string", "minLength": 1, "maxLength": most} for key, most in keys.items()},
        "required": list(keys),
        "additionalProperties": False,
    }
