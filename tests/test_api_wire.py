"""Reading what a server sends: whatever it is, it becomes an answer that can be stored, and the key is gone."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.api import wire
from limbeck.api.answers import Answer, Answered, Failed

KEY = "sk-secret-1234567890"
TEXT = st.text(st.characters(codec=None), max_size=12) | st.just(KEY) | st.just("\ud800")
VALUE = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON: Any = st.recursive(
    VALUE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
MESSAGE = st.fixed_dictionaries({}, optional={"content": JSON, "refusal": JSON, "role": JSON})
CHOICE = st.fixed_dictionaries(
    {}, optional={"message": MESSAGE | JSON, "finish_reason": JSON, "stop_reason": JSON, "matched_stop": JSON}
)
ERROR = st.fixed_dictionaries({}, optional={"message": JSON, "code": JSON, "type": JSON, "param": JSON})
USAGE = st.fixed_dictionaries({}, optional={"prompt_tokens": JSON, "completion_tokens": JSON})
BODY = JSON | st.fixed_dictionaries(
    {}, optional={"choices": st.lists(CHOICE | JSON, max_size=2) | JSON, "usage": USAGE | JSON, "error": ERROR | JSON}
)
CONTENT = st.binary(max_size=60) | BODY.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))


@given(CONTENT)
def test_any_body_becomes_an_answer_that_can_be_stored_and_does_not_hold_the_key(content: bytes) -> None:
    for read in (wire.read_completion, wire.read_sample):
        answer = read(content, KEY)
        assert isinstance(answer, Answered | Failed)
        assert KEY not in answer.model_dump_json()
        assert min(answer.tokens_in, answer.tokens_out) >= 0
    error = wire.read_error(content, KEY)
    for text in (error.message, error.code, error.param, wire.without(content, KEY)):
        assert KEY not in text
        text.encode("utf-8")
    wire.read_models(content)


@given(TEXT | st.none())
def test_any_retry_after_is_seconds_or_nothing(value: str | None) -> None:
    seconds = wire.retry_after_seconds(value, 1_800_000_000.0)
    assert seconds is None or seconds >= 0


def both(content: object, finish_reason: str = "stop") -> tuple[Answer, Answer]:
    """The reply as either reader has it."""
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 7, "completion_tokens": 11}
    body = json.dumps({"choices": [choice], "usage": usage}).encode()
    return wire.read_completion(body, KEY), wire.read_sample(body, KEY)


@pytest.mark.parametrize(
    ("content", "finish_reason"),
    [("half a rep", "error"), ({"text": "hi"}, "stop"), (7, "stop"), (["hi"], "stop"), ([{"type": "text"}], "stop")],
)
def test_a_reply_that_ended_in_an_error_or_that_is_no_text_is_the_servers_error(
    content: object, finish_reason: str
) -> None:
    for answer in both(content, finish_reason):
        assert isinstance(answer, Failed) and not answer.about_the_reply  # so it is asked for again, and not kept
        assert (answer.reason, answer.tokens_in, answer.tokens_out) == ("server_error", 7, 11)


def test_a_reply_in_parts_is_the_text_among_them() -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4 it"}, {"type": "text", "text": " is"}]
    expected = Answered(text="4 it is", tokens_in=7, tokens_out=11)
    assert both(parts) == (expected, expected)
    thought, sample = both(parts[:1])
    assert isinstance(thought, Failed) and thought.reason == "empty"
    assert sample == Answered(text="", tokens_in=7, tokens_out=11)  # as one without any words
