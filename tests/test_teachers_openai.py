"""The API teacher over a fake server: what goes out, what is kept, what is never kept."""

import json
from pathlib import Path

import httpx
import pytest

from limbeck.api import Answered, ChatClient, Failed, ReplyStore
from limbeck.api.fake_server import Body, FakeServer, completion, error
from limbeck.errors import TeacherError
from limbeck.recipe_pairs import Endpoint, Teach
from limbeck.records import PromptRow, user_prompt
from limbeck.teachers import OpenAITeacher, Request, ask
from limbeck.teachers.rendering import zero_shot_request

KEY = "sk-secret-1234567890"
GOOD = '{"preferred": "4", "dispreferred": "5"}'


def request(number: int) -> Request:
    return zero_shot_request(PromptRow(id=str(number), prompt=user_prompt(f"What is {number}?"), source="s"))


def teacher(server: FakeServer, temperature: float = 0.7) -> OpenAITeacher:
    endpoint = Endpoint(base_url="http://fake/v1", max_retries=0, concurrency=2)
    client = ChatClient(endpoint, transport=server.transport, environ={"OPENAI_API_KEY": KEY})
    return OpenAITeacher("m", Teach(endpoint=endpoint, temperature=temperature), client)


def test_replies_come_in_the_order_of_the_requests_with_both_turns_and_the_parameters_sent(tmp_path: Path) -> None:
    server = FakeServer(lambda body: completion(body["messages"][1]["content"]))
    with ReplyStore(tmp_path / "r.sqlite") as store:
        replies = ask(teacher(server), [request(number) for number in range(6)], store)
    for number, reply in enumerate(replies):
        assert f"What is {number}?" in reply.answer.text
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["system", "user"]
    assert server.bodies[0]["response_format"] == {"type": "json_object"}
    assert (server.bodies[0]["temperature"], server.bodies[0]["max_tokens"]) == (0.7, 2048)


def test_only_what_got_no_reply_is_asked_again(tmp_path: Path) -> None:
    def answer(body: Body) -> httpx.Response:
        content = body["messages"][1]["content"]
        if "is 1?" in content:
            return completion("half", "length")
        return error(500) if "is 2?" in content else completion(GOOD)

    requests = [request(number) for number in range(4)]
    with ReplyStore(tmp_path / "r.sqlite") as store:
        first, second = FakeServer(answer), FakeServer(lambda _: completion(GOOD))
        before = [reply.answer for reply in ask(teacher(first), requests, store)]
        after = [reply.answer for reply in ask(teacher(second), requests, store)]
    assert [answer.reason for answer in before if isinstance(answer, Failed)] == ["truncated", "server_error"]
    assert len(second.bodies) == 1
    assert after[1] == before[1]
    assert after[2] == Answered(text=GOOD, tokens_in=7, tokens_out=11)


def test_a_change_of_temperature_model_or_prompt_is_another_key(tmp_path: Path) -> None:
    server = FakeServer(lambda _: completion(GOOD))
    with ReplyStore(tmp_path / "r.sqlite") as store:
        keys = {
            ask(teacher(server), [request(1)], store)[0].key,
            ask(teacher(server, temperature=0.1), [request(1)], store)[0].key,
            ask(teacher(server), [request(2)], store)[0].key,
        }
    assert len(keys) == 3


def test_the_key_is_in_no_byte_of_the_store_though_the_server_repeats_it(tmp_path: Path) -> None:
    def answer(body: Body) -> httpx.Response:
        leak = completion(f"your key is {KEY}")
        return error(500, f"bad {KEY}") if "is 1?" in json.dumps(body) else leak

    with ReplyStore(tmp_path / "r.sqlite") as store:
        ask(teacher(FakeServer(answer)), [request(1), request(2)], store)
        kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"your key is [key]" in kept
    assert KEY.encode() not in kept


def test_no_key_in_the_repr_and_none_in_a_final_error(tmp_path: Path) -> None:
    stubborn = teacher(FakeServer(lambda _: error(401, KEY)))
    with ReplyStore(tmp_path / "r.sqlite") as store, pytest.raises(TeacherError) as caught:
        ask(stubborn, [request(1)], store)
    assert KEY not in repr(stubborn) + str(caught.value)
