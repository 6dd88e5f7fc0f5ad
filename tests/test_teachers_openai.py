"""The API teacher over a fake server: what goes out, what is kept, what is never kept."""

import json
from pathlib import Path

import httpx
import pytest

from limbeck.api import Answered, ChatClient, Failed, ReplyStore
from limbeck.api.fake_server import Body, FakeServer, completion, error
from limbeck.errors import TeacherError
from limbeck.recipe.pairs import Endpoint, Structured, Teach
from limbeck.records import PromptRow, user_prompt
from limbeck.teachers import OpenAITeacher, Request, ask
from limbeck.teachers.rendering import plain_request, revise_request, zero_shot_request

KEY = "sk-secret-1234567890"
GOOD = '{"preferred": "4", "dispreferred": "5"}'


def request(number: int) -> Request:
    return zero_shot_request(PromptRow(id=str(number), prompt=user_prompt(f"What is {number}?"), source="s"))


def teacher(server: FakeServer, temperature: float = 0.7, structured: Structured = "auto") -> OpenAITeacher:
    endpoint = Endpoint(base_url="http://fake/v1", api_key_env="OPENAI_API_KEY", max_retries=0, concurrency=2)
    client = ChatClient(endpoint, transport=server.transport, environ={"OPENAI_API_KEY": KEY})
    return OpenAITeacher("m", Teach(endpoint=endpoint, temperature=temperature, structured=structured), client)


def test_replies_come_in_the_order_of_the_requests_with_both_turns_and_the_parameters_sent(tmp_path: Path) -> None:
    server = FakeServer(lambda body: completion(body["messages"][1]["content"]))
    with ReplyStore(tmp_path / "r.sqlite") as store:
        replies = ask(teacher(server), [request(number) for number in range(6)], store)
    for number, reply in enumerate(replies):
        assert f"What is {number}?" in reply.answer.text
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["system", "user"]
    wanted = server.bodies[0]["response_format"]["json_schema"]
    assert (wanted["strict"], wanted["schema"]["required"]) == (True, ["preferred", "dispreferred"])
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


ROW = PromptRow(id="p", prompt=user_prompt("What is 2?"), source="s")


def picky(*taken: str) -> FakeServer:
    """A server that takes these types of response_format only, none among them where it is named."""

    def answer(body: Body) -> httpx.Response:
        asked = body.get("response_format", {"type": "none"})["type"]
        return completion(GOOD) if asked in taken else error(400, f"unsupported: {asked}", param="response_format")

    return FakeServer(answer)


def asked_types(server: FakeServer) -> list[str]:
    return [body.get("response_format", {"type": "none"})["type"] for body in server.bodies]


@pytest.mark.parametrize(
    ("taken", "tried"),
    [
        ("json_schema", ["json_schema"]),
        ("json_object", ["json_schema", "json_object"]),
        ("none", ["json_schema", "json_object", "none"]),
    ],
)
def test_a_schema_is_asked_for_first_then_any_object_then_nothing(tmp_path: Path, taken: str, tried: list[str]) -> None:
    server = picky(taken)
    with ReplyStore(tmp_path / "r.sqlite") as store:
        (first,) = ask(teacher(server), [request(1)], store)
        assert first.answer == Answered(text=GOOD, tokens_in=7, tokens_out=11)
        assert asked_types(server) == tried
        assert ask(teacher(picky()), [request(1)], store) == [first]  # however it was had, it is the same wish


@pytest.mark.parametrize(("wanted", "taken"), [("json_schema", "json_object"), ("json_object", "none")])
def test_who_insists_on_a_form_is_told_where_the_server_does_not_take_it(
    tmp_path: Path, wanted: Structured, taken: str
) -> None:
    with (
        ReplyStore(tmp_path / "r.sqlite") as store,
        pytest.raises(
            TeacherError,
            match=f"teach.structured is '{wanted}', and http://fake/v1 does not take that for 'm'; set it to",
        ),
    ):
        ask(teacher(picky(taken), structured=wanted), [request(1)], store)


def test_what_is_asked_for_and_how_belongs_to_the_key(tmp_path: Path) -> None:
    server = FakeServer(lambda _: completion(GOOD))
    wishes: list[Structured] = ["auto", "json_object", "off"]
    with ReplyStore(tmp_path / "r.sqlite") as store:
        keys = {ask(teacher(server, structured=wish), [request(1)], store)[0].key for wish in wishes}
    assert len(keys) == 3
    assert asked_types(server) == ["json_schema", "json_object", "none"]


def test_a_plain_request_asks_for_no_json_and_a_revision_for_its_one_key(tmp_path: Path) -> None:
    server = FakeServer(lambda _: completion("4"))
    with ReplyStore(tmp_path / "r.sqlite") as store:
        ask(teacher(server), [plain_request(ROW), revise_request(ROW, "3")], store)
    plain, revise = sorted(server.bodies, key=lambda body: len(body["messages"]))
    assert plain["messages"] == [{"role": "user", "content": "What is 2?"}]
    assert "response_format" not in plain
    assert revise["response_format"]["json_schema"]["schema"] == {
        "type": "object",
        "properties": {"revised": {"type": "string"}},
        "required": ["revised"],
        "additionalProperties": False,
    }
