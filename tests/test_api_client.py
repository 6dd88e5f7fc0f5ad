"""The client: the real one, over a fake server; only sleeping and the environment are handed in."""

import asyncio
import email.utils
import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pytest

from limbeck.api import Answer, Answered, ChatClient, ChatRequest, Failed, ReplyStore, wire
from limbeck.api.address import NVIDIA, OPENAI, Address, Provider
from limbeck.api.fake_server import Body, FakeServer, completion, error
from limbeck.errors import RecipeError, TeacherError
from limbeck.recipe.file import parse_recipe
from limbeck.recipe.pairs import Endpoint
from limbeck.records import user_prompt

KEY = "sk-secret-1234567890"
NOW = 1_800_000_000.0
REQUEST = ChatRequest(
    "m", user_prompt("hello"), {"temperature": 0.7, "max_tokens": 9, "response_format": {"type": "x"}}
)


class Bench:
    """A client over a fake server, with the sleeps it asked for."""

    def __init__(self, answer: Callable[[Body], httpx.Response], environ: Mapping[str, str] | None = None) -> None:
        self.slept: list[float] = []
        self.server = FakeServer(answer)
        self.client = ChatClient(
            Endpoint(base_url="http://fake/v1", api_key_env="OPENAI_API_KEY", max_retries=3),
            transport=self.server.transport,
            sleep=self._sleep,
            now=lambda: NOW,
            environ={"OPENAI_API_KEY": KEY} if environ is None else environ,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def ask(self, times: int = 1) -> list[Answer]:
        async def talk() -> list[Answer]:
            async with self.client as client:
                return [await client.complete(REQUEST) for _ in range(times)]

        return asyncio.run(talk())


def in_turn(*answers: httpx.Response | Exception) -> Callable[[Body], httpx.Response]:
    left = list(answers)

    def answer(_body: Body) -> httpx.Response:
        now = left.pop(0)
        if isinstance(now, Exception):
            raise now
        return now

    return answer


def test_a_completion_comes_back_with_its_tokens_and_the_key_goes_out_in_the_header_only() -> None:
    bench = Bench(lambda _: completion("hi"))
    assert bench.ask() == [Answered(text="hi", tokens_in=7, tokens_out=11)]
    assert bench.server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert bench.server.bodies[0]["messages"] == [{"role": "user", "content": "hello"}]
    assert KEY not in str(bench.server.bodies)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (completion("half a rep", "length"), "truncated"),
        (completion("", "content_filter"), "content_filter"),
        (completion(None, refusal="I will not"), "refused"),
        (completion("  "), "empty"),
        (error(400, "filtered", code="content_filter"), "content_filter"),
        (error(400, "prompt too long"), "bad_request"),
        (error(422, "odd"), "bad_request"),
    ],
)
def test_one_bad_reply_is_a_typed_failure_that_is_not_retried(response: httpx.Response, reason: str) -> None:
    bench = Bench(lambda _: response)
    (answer,) = bench.ask()
    assert isinstance(answer, Failed)
    assert answer.reason == reason
    assert len(bench.server.bodies) == 1


def test_a_truncated_reply_keeps_its_raw_text_and_its_tokens() -> None:
    (answer,) = Bench(lambda _: completion("half a rep", "length")).ask()
    assert answer == Failed(reason="truncated", text="half a rep", tokens_in=7, tokens_out=11)


@pytest.mark.parametrize(
    "fault",
    [error(408), error(409), error(429), error(500), error(503), httpx.ReadError("gone"), httpx.ConnectError("down"),
     httpx.ReadTimeout("slow"), httpx.Response(200, text="<html>proxy</html>")],
)  # fmt: skip
def test_a_passing_fault_is_retried(fault: httpx.Response | Exception) -> None:
    bench = Bench(in_turn(fault, completion("hi")))
    assert bench.ask() == [Answered(text="hi", tokens_in=7, tokens_out=11)]
    assert len(bench.slept) == 1


def test_waits_double_with_jitter_and_retries_are_bounded() -> None:
    bench = Bench(lambda _: error(503, "busy"))
    (answer,) = bench.ask()
    assert answer == Failed(reason="server_error", detail="503: busy")
    assert len(bench.server.bodies) == 4
    for wait, longest in zip(bench.slept, (0.5, 1.0, 2.0), strict=True):
        assert longest / 2 <= wait <= longest


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("17", 17.0), (email.utils.formatdate(NOW + 42, usegmt=True), 42.0), ("86400", 120.0), ("-5", 0.0), ("soon", 0.0)],
)
def test_retry_after_is_honoured_in_seconds_and_as_a_date_within_bounds(value: str, seconds: float) -> None:
    bench = Bench(in_turn(error(429, retry_after=value), completion("hi")))
    bench.ask()
    assert bench.slept[0] == seconds if seconds else bench.slept[0] <= 0.5


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (error(401, f"bad key {KEY}"), "refused the key in OPENAI_API_KEY"),
        (error(403), "does not allow"),
        (error(404), "does not know the model 'm'"),
        (error(410), "retired the model 'm'"),
        (error(429, code="insufficient_quota"), "no credit"),
        (httpx.Response(302, headers={"Location": "http://elsewhere/"}), "302"),
    ],
)
def test_what_is_final_for_all_is_one_clear_sentence_after_one_request(response: httpx.Response, words: str) -> None:
    bench = Bench(lambda _: response)
    with pytest.raises(TeacherError) as caught:
        bench.ask()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(bench.server.bodies) == 1


def test_no_connection_after_all_retries_is_final() -> None:
    def refuse(_body: Body) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    with pytest.raises(TeacherError, match="no connection to http://fake/v1 after 4 attempts"):
        Bench(refuse).ask()


def test_a_server_without_response_format_is_asked_without_it_from_then_on() -> None:
    def answer(body: Body) -> httpx.Response:
        return error(400, "response_format is unknown") if "response_format" in body else completion("hi")

    bench = Bench(answer)
    bench.ask(times=3)
    assert ["response_format" in body for body in bench.server.bodies] == [True, False, False, False]
    assert bench.client.adaptations == {"without response_format"}


def test_a_server_that_renamed_max_tokens_and_fixed_the_temperature_is_still_asked() -> None:
    def answer(body: Body) -> httpx.Response:
        if "max_tokens" in body:
            return error(400, "Use 'max_completion_tokens' instead", param="max_tokens")
        return error(400, "only 1", param="temperature") if "temperature" in body else completion("hi")

    bench = Bench(answer)
    assert bench.ask() == [Answered(text="hi", tokens_in=7, tokens_out=11)]
    assert bench.server.bodies[-1]["max_completion_tokens"] == 9


def test_the_key_appears_in_no_repr_no_error_and_no_answer() -> None:
    leaky = [error(500, f"key {KEY}"), error(400, f"Bearer {KEY}"), completion(f"your key is {KEY}")]
    texts = []
    for response in leaky:
        bench = Bench(in_turn(*[response] * 4))
        texts += [str(bench.ask()), repr(bench.client), repr(bench.client._address), repr(bench.client._address.key)]
    with pytest.raises(TeacherError) as caught:
        Bench(lambda _: error(451, f"for {KEY}")).ask()
    assert KEY not in " ".join([*texts, str(caught.value)])


def test_without_a_key_the_providers_own_address_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(TeacherError, match="set the environment variable OPENAI_API_KEY"):
        ChatClient(Endpoint(), environ={}).check()


def test_without_a_key_an_own_server_is_asked_without_authorization() -> None:
    bench = Bench(lambda _: completion("hi"), environ={})
    bench.ask()
    assert "authorization" not in bench.server.headers[0]


def test_a_keyless_401_names_the_variable_to_set() -> None:
    with pytest.raises(TeacherError, match="asks for a key"):
        Bench(lambda _: error(401), environ={}).ask()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/v1", "localhost:8000", "http://", "http://localhost:80O0/v1", "http://[::1/v1",
    ],
)  # fmt: skip
def test_an_address_that_is_no_server_is_refused(url: str) -> None:
    for environ in ({}, {"OPENAI_API_KEY": KEY}):
        with pytest.raises(TeacherError, match="base_url") as caught:
            ChatClient(Endpoint(base_url=url, api_key_env="OPENAI_API_KEY"), environ=environ).check()
    assert url.removeprefix("http://") in str(caught.value)


@pytest.mark.parametrize("url", ["http://me:topsecret@x/v1", "me:topsecret@x/v1", "http://x/v1?key=topsecret"])
def test_an_address_that_carries_a_secret_is_refused_by_the_recipe_already(url: str) -> None:
    with pytest.raises(RecipeError, match="must not carry a name, password or query") as caught:
        parse_recipe({"name": "r", "teach": {"endpoint": {"base_url": url}}}, where="here")
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["sk-proj-topsecret", "nvapi-topsecret", "hf_abcdefghijklmnop1234567890topsecret", "0topsecret", "a b"]
)
def test_a_key_in_place_of_its_variables_name_is_refused_without_being_shown(key: str) -> None:
    for section in ({"teach": {"endpoint": {"api_key_env": key}}},
                    {"judges": {"nemotron": {"endpoint": {"api_key_env": key}}}},
                    {"servers": {"sft": {"base_url": "http://x/v1", "model": "m", "api_key_env": key}}}):  # fmt: skip
        with pytest.raises(RecipeError, match="api_key_env: should be the name of an environment variable") as caught:
            parse_recipe({"name": "r"} | section, where="here")
        assert key not in str(caught.value)
    for name in ("", "OPENAI_API_KEY", "MY_KEY_2_OF_THE_OTHER_ACCOUNT", "my_key"):
        parse_recipe({"name": "r", "teach": {"endpoint": {"api_key_env": name}}}, where="here")


def test_a_providers_key_crosses_the_internet_encrypted_or_not_at_all() -> None:
    environ = {"OPENAI_API_KEY": KEY, "NVIDIA_API_KEY": KEY, "OTHER": KEY}
    for name in ("OPENAI_API_KEY", "NVIDIA_API_KEY"):
        endpoint = Endpoint(base_url="http://lab.example.org/v1", api_key_env=name)
        with pytest.raises(TeacherError, match=rf"the key in {name} would go to .* in clear text") as refused:
            ChatClient(endpoint, environ=environ).check()
        assert KEY not in str(refused.value)
    for allowed in (
        Endpoint(base_url="https://lab.example.org/v1", api_key_env="OPENAI_API_KEY"),
        Endpoint(base_url="http://lab.example.org/v1", api_key_env="OTHER"),
        Endpoint(base_url="http://localhost:8000/v1", api_key_env="OPENAI_API_KEY"),
        Endpoint(base_url="http://192.168.0.7:8000/v1", api_key_env="OPENAI_API_KEY"),
        Endpoint(base_url="http://lab.example.org/v1"),  # gets no key
    ):
        ChatClient(allowed, environ=environ).check()
    unset = Endpoint(base_url="http://lab.example.org/v1", api_key_env="OPENAI_API_KEY")
    ChatClient(unset, environ={}).check()  # no key, nothing to protect


@pytest.mark.parametrize(
    ("base_url", "named", "sent"),
    [
        ("https://lab.openai.azure.com", None, "AZURE_OPENAI_API_KEY"),
        ("https://lab.example.org", None, None),
        ("https://azure.com.example.org", None, None),
        ("https://api.openai.com/v1", None, None),
        ("https://lab.example.org", "OTHER", "OTHER"),
    ],
)
def test_azures_key_goes_to_azure_alone_unless_its_variable_is_named(
    base_url: str, named: str | None, sent: str | None
) -> None:
    environ = {"OPENAI_API_KEY": "sk-openais", "AZURE_OPENAI_API_KEY": "azures", "OTHER": "other"}
    address = Address(Endpoint(base_url=base_url, style="azure", api_key_env=named), OPENAI, environ)
    address.check()
    assert address.headers() == ({"api-key": environ[sent]} if sent else {})


def test_an_azure_endpoint_without_an_address_is_refused() -> None:
    with pytest.raises(TeacherError, match="needs a base_url"):
        ChatClient(Endpoint(style="azure"), environ={"OPENAI_API_KEY": KEY}).check()


@pytest.mark.parametrize(
    ("provider", "base_url", "named", "sent"),
    [
        (OPENAI, None, None, "OPENAI_API_KEY"),
        (OPENAI, "https://API.openai.com/v1/", None, "OPENAI_API_KEY"),
        (OPENAI, "https://eu.api.openai.com/v1", None, "OPENAI_API_KEY"),
        (OPENAI, "https://notapi.openai.com/v1", None, None),
        (OPENAI, "https://api.openai.com.example.org/v1", None, None),
        (OPENAI, "http://localhost:8000/v1", None, None),
        (OPENAI, "https://integrate.api.nvidia.com/v1", None, None),
        (OPENAI, "https://lab.example.org/v1", "OPENAI_API_KEY", "OPENAI_API_KEY"),
        (OPENAI, None, "", None),
        (NVIDIA, None, None, "NVIDIA_API_KEY"),
        (NVIDIA, "http://localhost:8000/v1", None, None),
        (NVIDIA, "https://api.openai.com/v1", None, None),
    ],
)
def test_a_providers_key_goes_to_his_own_address_alone_unless_its_variable_is_named(
    provider: Provider, base_url: str | None, named: str | None, sent: str | None
) -> None:
    environ = {"OPENAI_API_KEY": "sk-openais", "NVIDIA_API_KEY": "nvapi-nvidias"}
    address = Address(Endpoint(base_url=base_url, api_key_env=named), provider, environ)
    if sent is None and base_url is None:
        with pytest.raises(TeacherError, match="needs a key"):
            address.check()
        return
    address.check()
    assert address.headers() == ({"Authorization": f"Bearer {environ[sent]}"} if sent else {})


def test_a_key_is_removed_however_json_spells_it_and_a_short_one_is_a_word() -> None:
    key = "abc/def+ghi=jkl"
    spelt = b'{"said": "abc\\/def\\u002Bghi=jkl and abc/def+ghi=jkl"}'.replace(b"\\\\", b"\\")
    assert wire.without(spelt, key) == '{"said": "[key] and [key]"}'
    assert wire.without(b"to have none", "none") == "to have none"


def test_a_server_that_accepts_no_connection_costs_nothing_and_is_said_to_be_unreachable() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:  # the queue of the socket is full from here on
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        client = ChatClient(Endpoint(base_url=url, timeout_seconds=0.6, max_retries=0), environ={})

        async def talk() -> None:
            async with client:
                await client.complete(REQUEST)

        with pytest.raises(TeacherError, match="no connection to"):
            asyncio.run(talk())
        for one in waiting:
            one.close()


def test_a_key_with_a_line_break_inside_is_refused_without_being_shown() -> None:
    with pytest.raises(TeacherError, match="OPENAI_API_KEY") as caught:
        ChatClient(Endpoint(), environ={"OPENAI_API_KEY": "sk-a\nsk-b"}).check()
    assert "sk-a" not in str(caught.value)


def test_half_a_surrogate_pair_in_a_reply_becomes_text_that_can_be_stored() -> None:
    content = b'{"choices": [{"message": {"content": "a\\ud800b"}, "finish_reason": "stop"}]}'
    (answer,) = Bench(lambda _: httpx.Response(200, content=content)).ask()
    assert answer.text.encode("utf-8").startswith(b"a")


def test_half_a_surrogate_pair_in_an_error_or_a_finish_reason_can_be_stored_too(tmp_path: Path) -> None:
    said = json.dumps({"error": {"message": "no \ud83d here"}}).encode()
    (failed,) = Bench(in_turn(httpx.Response(400, content=said))).ask()
    choice = {"message": {"content": "4"}, "finish_reason": "st\ud83dop"}
    (answered,) = Bench(in_turn(httpx.Response(200, content=json.dumps({"choices": [choice]}).encode()))).ask()
    with ReplyStore(tmp_path / "replies.sqlite") as store:
        for key, answer in {"failed": failed, "answered": answered}.items():
            store.begin(key, "zero_shot", "{}")
            store.finish(key, answer)
        stored = store.get("answered")
    assert isinstance(failed, Failed) and failed.detail == "no ??? here".replace("?", "\ufffd")
    assert isinstance(stored, Answered) and stored.text == "4"
