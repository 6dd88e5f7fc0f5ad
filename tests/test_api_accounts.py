"""What the client tells an account of each attempt, and how it knows a server and is known to it."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from limbeck.api import ChatClient, ChatRequest
from limbeck.api.fake_server import FakeServer, completion, error
from limbeck.errors import BudgetError, TeacherError
from limbeck.recipe.pairs import Endpoint
from limbeck.records import user_prompt

KEY = "sk-secret-1234567890"
REQUEST = ChatRequest("m", user_prompt("hellö"), {"max_tokens": 9})


class Ledger:
    """An account that writes down what it is told."""

    def __init__(self, room: int = 100) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.room = room

    async def begin(self, tokens_in: int, tokens_out: int) -> int:
        if not self.room:
            raise BudgetError("used up")
        self.room -= 1
        self.told.append(("begin", tokens_in, tokens_out))
        return self.room

    def settle(self, _attempt: int, tokens_in: int, tokens_out: int, body: str) -> None:
        self.told.append(("settle", tokens_in, tokens_out, body))

    def give_up(self, _attempt: int, body: str = "") -> None:
        self.told.append(("give up", body))


async def no_sleep(_seconds: float) -> None:
    """Tests do not wait."""


def client_of(answers: list[httpx.Response | Exception], **endpoint: Any) -> tuple[ChatClient, FakeServer]:
    left = list(answers)

    def answer(_body: dict[str, Any]) -> httpx.Response:
        now = left.pop(0)
        if isinstance(now, Exception):
            raise now
        return now

    server = FakeServer(answer)
    settings = Endpoint(**{"base_url": "http://fake/v1", "api_key_env": "OPENAI_API_KEY", "max_retries": 3} | endpoint)
    client = ChatClient(
        settings, transport=server.transport, sleep=no_sleep, environ={"OPENAI_API_KEY": KEY, "OTHER": KEY}
    )
    return client, server


def told(answers: list[httpx.Response | Exception], ledger: Ledger) -> list[tuple[Any, ...]]:
    client, _ = client_of(answers)

    async def talk() -> None:
        async with client:
            await client.complete(REQUEST, ledger)

    asyncio.run(talk())
    return ledger.told


def test_the_worst_case_is_a_token_a_byte_of_the_body_and_the_most_tokens_of_the_reply() -> None:
    body = '{"model":"m","messages":[{"role":"user","content":"hellö"}],"max_tokens":9}'
    (begin, settle) = told([completion("hi")], Ledger())
    assert begin == ("begin", len(body.encode()), 9)
    assert settle[:3] == ("settle", 7, 11)
    assert '"content":"hi"' in settle[3].replace(": ", ":")


@pytest.mark.parametrize(
    ("fault", "booked"),
    [
        (error(429), "settle"), (error(500), "settle"), (error(503), "settle"), (httpx.ConnectError("down"), "settle"),
        (error(502), "give up"), (error(504), "give up"), (httpx.ReadTimeout("slow"), "give up"),
        (httpx.ReadError("reset"), "give up"), (httpx.Response(200, text="<html>"), "give up"),
        (completion("", tokens_out=None), "give up"),
    ],
)  # fmt: skip
def test_what_may_have_been_paid_for_keeps_its_worst_case_and_what_was_refused_costs_nothing(
    fault: httpx.Response | Exception, booked: str
) -> None:
    ledger = Ledger()
    told([fault, completion("hi")], ledger)
    assert ledger.told[1][0] == booked
    assert booked == "give up" or ledger.told[1][1:3] == (0, 0)


def test_a_count_that_the_server_leaves_out_keeps_its_worst_case() -> None:
    body = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 7}}
    ledger = Ledger()
    told([httpx.Response(200, json=body)], ledger)
    assert ledger.told[1][:3] == ("settle", 7, 9)


def test_every_attempt_is_booked_before_it_is_sent_also_one_that_adapts() -> None:
    ledger = Ledger()
    told([error(400, "Use 'max_completion_tokens' instead"), error(429), completion("hi")], ledger)
    assert [entry[0] for entry in ledger.told] == ["begin", "settle"] * 3
    assert [entry[2] for entry in ledger.told[::2]] == [9, 9, 9]


def test_without_room_for_another_attempt_nothing_more_is_sent() -> None:
    client, server = client_of([error(429), completion("hi")])

    async def talk() -> None:
        async with client:
            await client.complete(REQUEST, Ledger(room=1))

    with pytest.raises(BudgetError):
        asyncio.run(talk())
    assert len(server.bodies) == 1


def test_the_raw_answer_is_handed_over_without_the_key() -> None:
    ledger = Ledger()
    told([completion(f"you are {KEY}")], ledger)
    assert KEY not in str(ledger.told)
    assert "you are [key]" in str(ledger.told)


def headers_and_urls(**endpoint: Any) -> tuple[httpx.Headers, str]:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return completion("hi")

    settings = Endpoint(**{"base_url": "http://fake", "api_key_env": "MY_KEY"} | endpoint)
    client = ChatClient(settings, transport=httpx.MockTransport(handle), environ={"MY_KEY": KEY})

    async def talk() -> None:
        async with client:
            await client.complete(ChatRequest("a/b model", user_prompt("x")))

    asyncio.run(talk())
    return seen[0].headers, str(seen[0].url)


def test_an_azure_endpoint_names_its_deployment_in_the_address_and_its_key_in_its_own_header() -> None:
    headers, url = headers_and_urls(style="azure", azure_api_version="2024-10-21")
    assert url == "http://fake/openai/deployments/a%2Fb%20model/chat/completions?api-version=2024-10-21"
    assert headers["api-key"] == KEY
    assert "authorization" not in headers


def test_a_key_file_takes_the_place_of_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-from-a-file\n")
    headers, _ = headers_and_urls(api_key_file=str(file))
    assert headers["authorization"] == "Bearer sk-from-a-file"


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), (b"", "is empty"), (b"sk-a\nsk-b", "characters that no key has"), (b"\xff", "no text")],
)
def test_a_key_file_without_a_key_is_named_and_never_shown(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    client, _ = client_of([], api_key_file=str(file))
    with pytest.raises(TeacherError, match=words) as caught:
        client.check()
    assert str(file) in str(caught.value)
    assert "sk-a" not in str(caught.value)


def test_push_backs_halve_what_is_in_flight_and_good_answers_let_it_grow() -> None:
    client, _ = client_of([completion("hi"), error(503), completion("hi")], concurrency=32)

    async def talk() -> list[float]:
        limits = []
        async with client:
            for _ in range(2):
                await client.complete(REQUEST)
                limits.append(client._flow.in_flight_limit)
        return limits

    grown, halved = asyncio.run(talk())
    assert grown == 9
    assert halved == 4.5 + 1 / 4.5
