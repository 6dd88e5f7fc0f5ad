"""What travels between an OpenAI-compatible server and us: reading completions, errors and Retry-After. Pure.

Servers differ in what they accept; the differences known here are the adaptations: a parameter that a server names
in a 400 is left out or renamed from then on.
"""

import email.utils
import functools
import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Literal

from limbeck.api.answers import Answer, Answered, Failed

Adaptation = Literal[
    "json_object for json_schema",
    "without response_format",
    "max_completion_tokens for max_tokens",
    "without temperature",
]
_ERROR_CHARACTERS = 300
_LEAST_KEY_CHARACTERS = 12  # shorter ones ("none", "EMPTY", "ollama") are no secrets, but words of replies
# Servers name what they refuse by its parameter, its type, or in words ("does not support response format").
_OF_THE_FORMAT = re.compile(r"response[_ ]format|json_schema|json_object", re.IGNORECASE)
_LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk|nvapi|gsk|hf|AIza|key)[-_][\w*.\-]{6,}|(?i:bearer)\s+\S+")


@dataclass(frozen=True, slots=True)
class ServerError:
    """A server's own words for a failure, scrubbed and shortened; `code` and `param` are empty where it has none."""

    message: str
    code: str = ""
    param: str = ""


def scrub(text: str, secret: str | None) -> str:
    """Remove the key, and whatever looks like one, from a server's text; one line, at most 300 characters."""
    text = _clean(text, secret)
    return " ".join(_LOOKS_LIKE_A_KEY.sub("[key]", text).split())[:_ERROR_CHARACTERS]


def without(content: bytes, secret: str | None) -> str:
    """A server's answer as text, as it came but for the key, in whatever way JSON spells it."""
    text = _clean(content.decode("utf-8", "replace"), secret)
    return _spelt(secret).sub("[key]", text) if secret and len(secret) >= _LEAST_KEY_CHARACTERS else text


@functools.lru_cache(maxsize=8)
def _spelt(secret: str) -> re.Pattern[str]:
    """The key with each character plain, behind a backslash, or by its number."""
    return re.compile("".join(rf"(?:\\?{re.escape(sign)}|\\u00(?i:{ord(sign):02x}))" for sign in secret))


def encode(body: Mapping[str, Any]) -> bytes:
    """A request's body as it travels."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def adapt(body: Mapping[str, Any], adaptations: Set[Adaptation]) -> dict[str, Any]:
    """The body as this server takes it."""
    adapted = dict(body)
    if "without response_format" in adaptations:
        adapted.pop("response_format", None)
    elif "json_object for json_schema" in adaptations and _asks_for_schema(body):
        adapted["response_format"] = {"type": "json_object"}
    if "without temperature" in adaptations:
        adapted.pop("temperature", None)
    if "max_completion_tokens for max_tokens" in adaptations and "max_tokens" in adapted:
        adapted["max_completion_tokens"] = adapted.pop("max_tokens")
    return adapted


def find_adaptation(body: Mapping[str, Any], error: ServerError) -> Adaptation | None:
    """What to change in `body` after a 400, or None. A parameter already left out is never blamed twice.

    A schema that is refused becomes the plain wish for JSON, and that, refused too, none.
    """
    if "response_format" in body and _OF_THE_FORMAT.search(f"{error.param} {error.message}"):
        return "json_object for json_schema" if _asks_for_schema(body) else "without response_format"
    if "max_tokens" in body and "max_completion_tokens" in error.message:
        return "max_completion_tokens for max_tokens"
    if "temperature" in body and error.param == "temperature":
        return "without temperature"
    return None


def _asks_for_schema(body: Mapping[str, Any]) -> bool:
    wanted = body.get("response_format")
    return isinstance(wanted, Mapping) and wanted.get("type") == "json_schema"


def read_error(content: bytes, secret: str | None) -> ServerError:
    """Read an error body: OpenAI's `{"error": {"message", "code", "param"}}`, or any other text."""
    text = content.decode("utf-8", "replace")
    body = _json_object(text)
    error = body.get("error")
    if not isinstance(error, dict):
        return ServerError(message=scrub(text, secret))
    message = error.get("message")
    return ServerError(
        message=scrub(message if isinstance(message, str) else text, secret),
        code=scrub(str(error.get("code") or error.get("type") or ""), secret),
        param=scrub(str(error.get("param") or ""), secret),
    )


def read_completion(content: bytes, secret: str | None) -> Answer:
    """Read a 200: text and usage, or why there is no usable text.

    The server's error, which may pass, is what has no choices, what it says itself ended with one, and what is no text.
    """
    text = content.decode("utf-8", "replace")
    body = _json_object(text)
    choice = _first_choice(body)
    if not choice:
        return Failed(reason="server_error", detail=f"200 without choices: {scrub(text, secret)}")
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    said, finish = _content(message), choice.get("finish_reason")
    counts = {"tokens_in": _count(body, "prompt_tokens"), "tokens_out": _count(body, "completion_tokens")}
    if said is None or finish == "error":
        ended = "a reply that ended with 'error'" if finish == "error" else "a reply whose content is no text"
        detail = f"{ended}: {scrub(text, secret)}"
        return Failed(reason="server_error", text=_clean(said, secret), detail=detail, **counts)
    reply, refusal = _clean(said, secret), _clean(message.get("refusal"), secret)
    faults: dict[Literal["content_filter", "refused", "truncated", "empty"], bool] = {
        "content_filter": finish == "content_filter",
        "refused": bool(refusal),
        "truncated": finish == "length",
        "empty": not reply.strip(),
    }
    for reason, is_so in faults.items():
        if is_so:
            return Failed(reason=reason, text=refusal if reason == "refused" else reply, **counts)
    return Answered(text=reply, finish_reason=_clean(finish, secret) or "stop", **counts)


def read_sample(content: bytes, secret: str | None) -> Answer:
    """Read a 200 as a sample of the model: an empty or cut reply is one too, and only what is no reply at all fails.

    `finish_reason` is "stop" or "length". OpenAI's "stop" means a stop string as well as the end of turn; which, only
    some servers say (vLLM in `stop_reason`, SGLang in `matched_stop`: a text, or a token or null).
    """
    answer = read_completion(content, secret)
    if isinstance(answer, Failed) and answer.reason not in ("truncated", "empty"):
        return answer
    choice = _first_choice(_json_object(content.decode("utf-8", "replace")))
    message = choice.get("message")
    text = _content(message) if isinstance(message, dict) and message.get("content") is not None else None
    finish = choice.get("finish_reason")
    counts = {"tokens_in": answer.tokens_in, "tokens_out": answer.tokens_out}
    if text is None:
        return Failed(reason="empty", detail="a reply without content", **counts)
    if finish not in ("stop", "length"):
        return Failed(reason="server_error", detail=f"a reply that ended with {scrub(str(finish), secret)!r}", **counts)
    told = [choice[name] for name in ("stop_reason", "matched_stop") if name in choice]
    stopped_by = next((why for why in told if isinstance(why, str)), "") if told and finish == "stop" else None
    return Answered(text=_clean(text, secret), finish_reason=finish, stopped_by=stopped_by, **counts)


def read_models(content: bytes) -> list[str] | None:
    """The names in a server's list of models, or None where it is no such list."""
    data = _json_object(content.decode("utf-8", "replace")).get("data")
    if not isinstance(data, list):
        return None
    return [entry["id"] for entry in data if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """Read a Retry-After header: seconds, or an HTTP date against `now` (Unix seconds). None where it says nothing."""
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _first_choice(body: Mapping[str, Any]) -> dict[str, Any]:
    choices = body.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _content(message: Mapping[str, Any]) -> str | None:
    """A message's text, which some servers send in parts, others of them reasoning; None where it is anything else."""
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) and "type" in part for part in content):
        texts = [part.get("text") for part in content if part["type"] == "text"]
        return "".join(texts) if all(isinstance(text, str) for text in texts) else None
    return content if isinstance(content, str) else "" if content is None else None


def _count(body: Mapping[str, Any], name: str) -> int:
    usage = body.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else 0


def _clean(value: object, secret: str | None) -> str:
    if not isinstance(value, str):
        return ""
    # A lone surrogate is JSON but not Unicode text: no file and no database takes it.
    text = value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text.replace(secret, "[key]") if secret and len(secret) >= _LEAST_KEY_CHARACTERS else text


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
