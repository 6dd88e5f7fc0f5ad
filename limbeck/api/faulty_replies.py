"""What a faulty server writes: completions good and bad, errors, Retry-After. Pure but for the clock in a date."""

import email.utils
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from limbeck.api.faults import Fate, Faults, charged_tokens, retry_after_kind
from limbeck.api.faulty_http import Ending, Reply, error_reply, json_reply

ENDINGS: Mapping[str, Ending] = {
    "reset_before": "reset_before",
    "reset_within": "reset_within",
    "cut_body": "cut_body",
    "hang": "silent",
    "hangs_up": "hangs_up",
}
_LONGEST_REPLY = 2048  # tokens, where a request sets no limit
_TEXT = (
    "so the first of these is three more than half of what was left after lunch and we take it from the whole which "
    "gives a sum that is easy to check against the question before anything else is said about it"
)
_WORDS = _TEXT.split()


class Written(NamedTuple):
    """A reply, and the tokens that a provider would charge for it."""

    reply: Reply
    tokens_in: int = 0
    tokens_out: int = 0


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of a request's messages."""
    messages = body.get("messages")
    texts = [message.get("content") for message in messages if isinstance(message, dict)] if messages else []
    return sum(charged_tokens(len(text)) + 4 for text in texts if isinstance(text, str))  # 4: role and separators


def write(body: Mapping[str, Any], key: str, fate: Fate, faults: Faults, number: int) -> Written:
    """The reply to a chat completion that meets this fate; its key stands in every text."""
    if fate.how == "rate_limited":
        return Written(rate_limited(faults, number))
    if fate.how == "server_error":
        status = fate.dice.choice((500, 502, 503))
        return Written(replace(error_reply(status, "the server is not well"), after_seconds=fate.latency_seconds))
    if fate.how == "content_filter" and fate.dice.random() < 0.5:
        return Written(error_reply(400, "the prompt was filtered", "content_filter"))
    tokens_in, limit = prompt_tokens(body), token_limit(body)
    tokens_out = {"truncated": limit, "overlong": 2 * limit + 1, "empty": 0}.get(fate.how, min(fate.tokens, limit))
    content = json.dumps(completion(body, key, fate, tokens_in, tokens_out)).encode()
    if fate.how == "malformed_json":
        content = content[: len(content) // 2]
    reply = Reply(200, content, after_seconds=fate.latency_seconds, ending=ENDINGS.get(fate.how, "whole"))
    if fate.how == "reset_before":
        return Written(reply)
    return Written(reply, tokens_in, tokens_out)


def completion(body: Mapping[str, Any], key: str, fate: Fate, tokens_in: int, tokens_out: int) -> dict[str, Any]:
    """A chat completion with the usage that OpenAI reports."""
    finish = {"truncated": "length", "content_filter": "content_filter"}.get(fate.how, "stop")
    message: dict[str, Any] = {"role": "assistant", "content": content_of(body, key, fate, tokens_out), "refusal": None}
    if fate.how == "refused":
        message |= {"content": None, "refusal": f"I cannot help with {key}."}
    choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]
    return {
        "id": f"chatcmpl-{key}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model", ""),
        "choices": [] if fate.how == "no_choices" else choices,
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out},
    }


def content_of(body: Mapping[str, Any], key: str, fate: Fate, tokens: int) -> str:
    """As many words as tokens: plain, or in a JSON object with the fields that the request's schema asks for."""
    if fate.how == "empty":
        return ""
    fields = fields_asked(body)
    if not fields:
        text = words(fate.dice, tokens)
        return f"{key}: {text}"
    share = max(tokens // len(fields), 1)
    text = json.dumps({field: f"{key}: {words(fate.dice, share)}" for field in fields})
    return text[: len(text) // 2] if fate.how == "truncated" else text


def fields_asked(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields of the JSON object that a request wants; a pair's where it wants any object, none for plain text."""
    wanted = body.get("response_format")
    wanted = wanted if isinstance(wanted, dict) else {}
    kind = wanted.get("type")
    if kind == "json_schema":
        return tuple(wanted["json_schema"]["schema"]["properties"])
    return ("preferred", "dispreferred") if kind == "json_object" else ()


def words(dice: random.Random, number: int) -> str:
    """Words that read like a reply, from a random place on."""
    start = dice.randrange(len(_WORDS))
    return " ".join((_WORDS * ((start + number) // len(_WORDS) + 1))[start : start + number])


def token_limit(body: Mapping[str, Any]) -> int:
    """The limit that a request sets, by either of its names."""
    limits: Sequence[object] = [body.get(name) for name in ("max_completion_tokens", "max_tokens")]
    return next((limit for limit in limits if isinstance(limit, int)), _LONGEST_REPLY)


def rate_limited(faults: Faults, number: int) -> Reply:
    """A 429 with Retry-After as seconds, as an HTTP date, or without."""
    kind, seconds = retry_after_kind(faults, number), faults.retry_after_seconds
    value = {"none": "", "seconds": str(seconds), "date": email.utils.formatdate(time.time() + seconds, usegmt=True)}
    headers = f"Retry-After: {value[kind]}\r\n" if value[kind] else ""
    return replace(error_reply(429, "too many requests", "rate_limit_exceeded"), headers=headers)


def models_reply(faults: Faults) -> Reply:
    """The list of models."""
    return json_reply({"object": "list", "data": [{"id": name, "object": "model"} for name in faults.models]})
