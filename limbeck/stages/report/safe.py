"""Safety: how text that a model wrote gets into a page without acting on it.

Four defences, each enough for most attacks: templates escape everything (autoescape), data travels in a JSON block in
which no character can end the block, scripts set `textContent` only, and a content security policy allows exactly one
script and one style by hash and no network at all. Characters that reorder, hide or break text are shown by number.
Refuses to know what the text means.
"""

import base64
import hashlib
import json
from typing import NamedTuple

from limbeck.untrusted import visible

_JSON_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


class Cut(NamedTuple):
    """The beginning of a text, made visible, and how many characters of the text are left out."""

    text: str
    more: int


def cut(text: str, limit: int) -> Cut:
    """Return at most `limit` characters of `text`, made visible."""
    return Cut(visible(text[:limit]), max(0, len(text) - limit))


def json_block(value: object) -> str:
    """JSON that can stand inside a `script` element: no `<`, `>`, `&` or line separator appears literally."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_JSON_ESCAPES)


def content_security_policy(script: str, style: str) -> str:
    """A policy (CSP level 2, source hashes) that allows this script and this style and nothing else.

    An empty script is none: the policy then allows no script at all.
    """
    allowed = _hash_source(script) if script else "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash_source(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash_source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
