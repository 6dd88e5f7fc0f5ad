"""What is changed in a request that a server does not take: the schema first, then the wish for JSON."""

from typing import Any

import pytest

from limbeck.api.wire import ServerError, adapt, find_adaptation

SCHEMA = {"type": "json_schema", "json_schema": {"name": "pair", "strict": True, "schema": {"type": "object"}}}
BODY: dict[str, Any] = {"model": "m", "temperature": 0.7, "max_tokens": 9, "response_format": SCHEMA}


@pytest.mark.parametrize(
    "error",
    [
        ServerError("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
        ServerError("This response_format type is unavailable now"),
        ServerError("This model does not support response format `json_schema`."),
        ServerError("Input should be 'text' or 'json_object'", param="type"),
        ServerError("no such field", param="response_format"),
    ],
)
def test_a_schema_that_is_refused_becomes_the_plain_wish_for_json_and_then_none(error: ServerError) -> None:
    assert find_adaptation(BODY, error) == "json_object for json_schema"
    plainer = adapt(BODY, {"json_object for json_schema"})
    assert plainer["response_format"] == {"type": "json_object"}
    assert find_adaptation(plainer, error) == "without response_format"
    bare = adapt(BODY, {"json_object for json_schema", "without response_format"})
    assert bare == {name: value for name, value in BODY.items() if name != "response_format"}
    assert find_adaptation(bare, error) is None


def test_an_adaptation_of_the_schema_leaves_requests_without_one_as_they_are() -> None:
    for body in ({"model": "m"}, {"model": "m", "response_format": {"type": "json_object"}}):
        assert adapt(body, {"json_object for json_schema"}) == body


def test_a_complaint_about_something_else_costs_no_schema() -> None:
    assert find_adaptation(BODY, ServerError("maximum context length exceeded", param="messages")) is None
    assert find_adaptation(BODY, ServerError("unsupported value", param="temperature")) == "without temperature"
