"""A student on a server: the real client over the fake server; only sleeping and the environment are handed in."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_folder, tiny_tokenizer

from limbeck.api.answers import Answered
from limbeck.api.fake_server import Body, FakeServer, completion, error
from limbeck.errors import InputError, ModelError, RecipeError, TeacherError
from limbeck.lm.chat import chat_of
from limbeck.lm.generate import Sampling
from limbeck.lm.replies import Replies
from limbeck.recipe import Model, Recipe, Server
from limbeck.recipe.pairs import Arm
from limbeck.records import FinishReason, Message, PromptRow, Reply, user_prompt
from limbeck.store import read_records
from limbeck.students import served
from limbeck.students.choice import student_for
from limbeck.students.samples import finish_reason, parameters, refused_parameter
from limbeck.students.server import ServerStudent

KEY = "sk-secret-1234567890"
ROWS = [PromptRow(id=f"row/{n}", prompt=user_prompt(f"What is {n}?"), source="test") for n in range(8)]
SAMPLING = Sampling(max_new_tokens=6, temperature=0.8, top_p=0.9, seed=3)
SETTINGS = Model(device="cpu", dtype="fp32")


def echo(body: Body) -> httpx.Response:
    return completion(f"It is {body['messages'][-1]['content']}")


class Bench:
    """A student over a fake server that has the model `m`."""

    def __init__(
        self, answer: Callable[[Body], httpx.Response] = echo, folder: Path | None = None, **settings: Any
    ) -> None:
        self.fake = FakeServer(answer)
        self.server = Server(**({"base_url": "http://fake/v1", "model": "m", "api_key_env": "MY_KEY"} | settings))
        client = served.client_for(
            self.server, transport=self.fake.transport, sleep=self._sleep, environ={"MY_KEY": KEY}
        )
        self.student = ServerStudent("sft", self.server, folder, SETTINGS, client)

    async def _sleep(self, _seconds: float) -> None:
        await asyncio.sleep(0.03)

    def ask(self, path: Path, rows: list[PromptRow] = ROWS, sampling: Sampling = SAMPLING) -> Replies:
        return self.student.ask(rows, sampling, SETTINGS, path / "replies.jsonl", "test")

    @property
    def asked(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.fake.bodies]


@pytest.fixture(scope="module")
def tokenizer_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder without its weights."""
    folder = tiny_folder(tmp_path_factory.mktemp("served"))
    (folder / "model.safetensors").unlink()
    return folder


def test_the_rows_own_messages_and_the_sampling_go_out_and_nothing_else(tmp_path: Path) -> None:
    bench = Bench()
    turns = (Message(role="system", content="Be brief."), Message(role="user", content="Hi"),
             Message(role="assistant", content="Yes?"), Message(role="user", content="Who?"))  # fmt: skip
    bench.ask(tmp_path, [PromptRow(id="a", prompt=turns, source="test")])
    (body,) = bench.fake.bodies
    seed = body.pop("seed")
    assert body == {
        "model": "m",
        "messages": [turn.model_dump() for turn in turns],
        "max_tokens": 6,
        "temperature": 0.8,
        "top_p": 0.9,
    }
    assert seed == parameters(SAMPLING, "a")["seed"]


def test_what_only_some_servers_take_is_sent_only_where_it_is_set() -> None:
    plain = parameters(Sampling(max_new_tokens=6), "a")
    assert set(plain) == {"max_tokens", "temperature", "top_p", "seed"}
    full = parameters(Sampling(max_new_tokens=6, top_k=40, repetition_penalty=1.1, stop=("\n\n", "Q:")), "a")
    assert {name: full[name] for name in set(full) - set(plain)} == {
        "top_k": 40,
        "repetition_penalty": 1.1,
        "stop": ["\n\n", "Q:"],
    }


def test_a_seed_is_the_samples_own_and_the_same_in_every_release() -> None:
    # SHA-256 over "3", "row/0", "0" joined by the unit separator: first 8 bytes, halved, modulo 2^31.
    assert parameters(SAMPLING, "row/0")["seed"] == 1070382376
    seeds = {parameters(SAMPLING, row.id, index)["seed"] for row in ROWS for index in range(3)}
    assert len(seeds) == 24


@given(seed=st.integers(0, 2**63 - 1), name=st.text(max_size=20), index=st.integers(0, 99))
def test_every_server_can_hold_a_seed(seed: int, name: str, index: int) -> None:
    sent = parameters(Sampling(1, seed=seed), name, index)["seed"]
    assert isinstance(sent, int)
    assert 0 <= sent < 2**31


def test_replies_stand_in_the_order_of_the_rows_whatever_order_they_come_in(tmp_path: Path) -> None:
    lost = [httpx.ReadError("again")]  # the first is asked once more, when all others are answered

    def first_is_last(body: Body) -> httpx.Response:
        if body["messages"][-1]["content"] == "What is 0?" and lost:
            raise lost.pop()
        return echo(body)

    bench = Bench(first_is_last, concurrency=3)
    got = bench.ask(tmp_path)
    assert bench.asked == [f"What is {n}?" for n in (*range(8), 0)]
    assert [reply.prompt_id for reply in got.replies] == [row.id for row in ROWS]
    assert [reply.text for reply in got.replies] == [f"It is What is {n}?" for n in range(8)]
    assert read_records(tmp_path / "replies.jsonl", Reply) == got.replies
    assert (got.tokens, got.drops) == (88, {})


def test_no_more_requests_are_in_flight_than_the_recipe_says(tmp_path: Path) -> None:
    now, most, lock = 0, 0, threading.Lock()

    def count(body: Body) -> httpx.Response:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.02)
        with lock:
            now -= 1
        return echo(body)

    fake = FakeServer(count)
    with fake.listen() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        student = ServerStudent("sft", Server(base_url=url, model="m", concurrency=3), None, SETTINGS)
        student.ask(ROWS, SAMPLING, SETTINGS, tmp_path / "replies.jsonl", "test")
    assert most == 3


def test_after_a_lost_connection_what_was_answered_is_kept_and_only_the_rest_is_asked(tmp_path: Path) -> None:
    def gone_after_three(body: Body) -> httpx.Response:
        if len(first.fake.bodies) > 3:
            raise httpx.ConnectError("down")
        return echo(body)

    first = Bench(gone_after_three, concurrency=1)
    with pytest.raises(TeacherError, match=r"no connection to http://fake/v1 .* run the same command again"):
        first.ask(tmp_path)
    assert len(read_records(tmp_path / "replies.jsonl", Reply)) == 3
    second = Bench(concurrency=1)
    got = second.ask(tmp_path)
    assert second.asked == [f"What is {n}?" for n in range(3, 8)]
    assert [reply.prompt_id for reply in got.replies] == [row.id for row in ROWS]
    third = Bench()
    assert third.ask(tmp_path).replies == got.replies
    assert third.fake.bodies == []


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (completion(None, refusal="I will not"), "no reply: refused"),
        (completion(None), "no reply: empty"),
        (completion(None, "tool_calls"), "no reply: empty"),
        (completion("par", "content_filter"), "no reply: content filter"),
        (error(400, "this model's maximum context length is 64 tokens"), "no reply: bad request"),
    ],
)
def test_what_is_no_reply_is_dropped_and_counted_and_never_an_empty_reply(
    response: httpx.Response, reason: str, tmp_path: Path
) -> None:
    bench = Bench(lambda body: response if body["messages"][-1]["content"] == "What is 2?" else echo(body))
    got = bench.ask(tmp_path)
    assert got.drops == {reason: 1}
    assert [reply.prompt_id for reply in got.replies] == [row.id for row in ROWS if row.id != "row/2"]
    assert "row/2" not in (tmp_path / "replies.jsonl").read_text()


def test_a_failure_of_service_on_one_prompt_of_many_is_a_drop_with_the_servers_own_sentence(tmp_path: Path) -> None:
    rows = [PromptRow(id=str(n), prompt=user_prompt(f"say {n}"), source="test") for n in range(40)]
    bench = Bench(lambda body: error(503, "busy") if body["messages"][-1]["content"] == "say 7" else echo(body))
    got = bench.ask(tmp_path, rows)
    assert got.drops == {"no reply: server error": 1}
    assert bench.asked.count("say 7") == 7  # once, and six retries
    assert bench.student.facts()["failure_examples"] == {"no reply: server error": "503: busy"}


def test_an_outage_is_no_result(tmp_path: Path) -> None:
    bench = Bench(lambda body: error(503, "busy") if body["messages"][-1]["content"] == "What is 7?" else echo(body))
    with pytest.raises(TeacherError, match=r"servers\.sft: 1 of 8 prompts got no reply .*\(503: busy\)"):
        bench.ask(tmp_path)
    assert len(read_records(tmp_path / "replies.jsonl", Reply)) == 7


def test_a_server_that_refuses_every_prompt_is_no_result(tmp_path: Path) -> None:
    bench = Bench(lambda _: error(400, "prompt too long for this server"))
    with pytest.raises(TeacherError, match=r"8 of 8 prompts got no reply .*\(prompt too long for this server\)"):
        bench.ask(tmp_path)


def test_an_empty_text_is_what_the_student_wrote_and_is_kept(tmp_path: Path) -> None:
    got = Bench(lambda _: completion("", tokens_out=1)).ask(tmp_path, ROWS[:1])
    assert got.replies == [Reply(prompt_id="row/0", text="", finish_reason="stop", num_tokens=1)]


def test_a_reply_cut_at_the_limit_keeps_its_text_and_says_so(tmp_path: Path) -> None:
    got = Bench(lambda _: completion("half a", "length", tokens_out=6)).ask(tmp_path, ROWS[:1])
    assert got.replies == [Reply(prompt_id="row/0", text="half a", finish_reason="length", num_tokens=6)]


@pytest.mark.parametrize(
    ("more", "finish", "untold"),
    [
        ({"stop_reason": "Q:"}, "stop_string", 0),  # vLLM
        ({"stop_reason": None}, "stop", 0),
        ({"stop_reason": 151643}, "stop", 0),
        ({"matched_stop": "Q:"}, "stop_string", 0),  # SGLang
        ({"matched_stop": 2}, "stop", 0),
        ({"matched_stop": "<|im_end|>"}, "stop", 0),  # of its own chat template
        ({}, "stop_string", 1),  # llama.cpp and OpenAI do not tell: no end of turn is made up
    ],
)
def test_a_stop_string_is_told_from_an_end_of_turn(
    more: dict[str, Any], finish: FinishReason, untold: int, tmp_path: Path
) -> None:
    bench = Bench(lambda _: completion("five", more=more))
    (reply,) = bench.ask(tmp_path, ROWS[:1], Sampling(max_new_tokens=6, stop=("Q:",))).replies
    assert reply.finish_reason == finish
    assert bench.student.facts().get("ends_not_told_from_stop_strings", 0) == untold


def test_without_stop_strings_every_stop_is_an_end_of_turn() -> None:
    for stopped_by in (None, "", "<|im_end|>"):
        assert finish_reason(Answered(text="x", stopped_by=stopped_by), ()) == "stop"
    assert finish_reason(Answered(text="x", finish_reason="length"), ("Q:",)) == "length"


def test_tokens_a_server_does_not_count_are_counted_by_the_tokenizer(tokenizer_only: Path, tmp_path: Path) -> None:
    text = "It is five, as two and three show."
    ids = chat_of(tiny_tokenizer(), "tiny").tokenizer.encode(text, add_special_tokens=False)
    for finish, expected in (("stop", len(ids) + 1), ("length", len(ids))):
        bench = Bench(lambda _, f=finish: completion(text, f, tokens_out=None), tokenizer_only)
        got = bench.ask(tmp_path / finish, ROWS[:2])
        assert [reply.num_tokens for reply in got.replies] == [expected] * 2
        assert got.tokens == 2 * expected


def test_tokens_that_nobody_can_count_are_unknown_and_said_to_be(tmp_path: Path) -> None:
    bench = Bench(lambda body: completion("five", tokens_out=None if "1" in body["messages"][-1]["content"] else 4))
    got = bench.ask(tmp_path, ROWS[:3])
    assert [reply.num_tokens for reply in got.replies] == [4, None, 4]
    assert got.tokens == 8
    assert bench.student.facts()["replies_of_unknown_length"] == 1


def test_prompts_over_the_limit_are_left_out_as_the_built_in_engine_does(tokenizer_only: Path, tmp_path: Path) -> None:
    long = PromptRow(id="long", prompt=user_prompt("word " * 900), source="test")
    bench = Bench(folder=tokenizer_only)
    limits = SETTINGS.model_copy(update={"max_prompt_tokens": 400})
    got = bench.student.ask([*ROWS, long], SAMPLING, limits, tmp_path / "replies.jsonl", "test")
    assert got.drops == {"prompt over 400 tokens": 1}
    assert len(bench.fake.bodies) == len(ROWS)


def test_a_served_students_weights_are_loaded_only_when_they_are_asked_for(
    tokenizer_only: Path, tmp_path: Path
) -> None:
    bench = Bench(folder=tokenizer_only)
    assert len(bench.ask(tmp_path).replies) == 8  # there are no weights, and nothing missed them
    with pytest.raises(ModelError, match="cannot be loaded"):
        bench.student.weights()
    with pytest.raises(ModelError, match="the weights of the model 'sft' are needed, but only its server is known"):
        Bench().student.weights()


@pytest.mark.parametrize(
    "said", ["Unexpected fields in the request: {'top_k'}", "top_k is not permitted", "no: `top_k`"]
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_parameter_that_a_server_does_not_take_is_one_sentence(said: str, status: int, tmp_path: Path) -> None:
    bench = Bench(lambda _: error(status, said), concurrency=1)
    with pytest.raises(TeacherError) as caught:
        bench.ask(tmp_path, sampling=Sampling(max_new_tokens=6, top_k=40))
    assert str(caught.value) == (
        f"servers.sft: http://fake/v1 does not take the parameter top_k ({said}); leave it at its default in the "
        "recipe, or sample on a server that takes it, such as vLLM"
    )
    assert len(bench.fake.bodies) == 1


def test_temperature_is_never_left_out_for_a_server_that_refuses_it(tmp_path: Path) -> None:
    bench = Bench(lambda _: error(400, "temperature must be 1", param="temperature"), concurrency=1)
    with pytest.raises(TeacherError, match="does not take the parameter temperature"):
        bench.ask(tmp_path)


def test_a_complaint_is_about_a_parameter_only_where_it_names_one_that_was_sent() -> None:
    sent = parameters(Sampling(max_new_tokens=6, stop=("Q:",)), "a")
    assert refused_parameter("top_k is not permitted", sent) is None
    assert refused_parameter("please stop sending such prompts", sent) is None
    assert refused_parameter("bad prompt: at what temperature does a seed sprout?", sent) is None
    assert refused_parameter("unknown field 'stop'", sent) == "stop"
    assert refused_parameter("unsupported parameter: temperature", sent) == "temperature"
    assert refused_parameter("the seed must be below 2^31", sent) == "seed"


def test_two_rows_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'row/0'"):
        Bench().ask(tmp_path, [*ROWS, ROWS[0]])


# Before anything is asked


def test_a_model_that_the_server_does_not_have_is_named_with_those_it_has() -> None:
    bench = Bench(model="limbeck-sft")
    bench.fake.models = ("base", "qwen")
    with pytest.raises(TeacherError) as caught:
        bench.student.check()
    assert str(caught.value) == (
        "servers.sft.model: http://fake/v1 does not serve 'limbeck-sft'; it serves 'base', 'qwen'"
    )
    assert bench.fake.bodies == []


@pytest.mark.parametrize("model", ["limbeck-sft", "limbeck-sft:latest"])
def test_ollamas_latest_tag_may_be_left_out(model: str) -> None:
    bench = Bench(model=model)
    bench.fake.models = ("limbeck-sft:latest",)
    bench.student.check()


def test_a_folder_is_left_to_the_server_to_judge(tmp_path: Path) -> None:
    Bench(model=str(tmp_path)).student.check()  # `transformers serve` loads it and does not list it


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        (httpx.ConnectError("refused"), r"servers\.sft: no server answers at http://fake/v1 \(refused\)"),
        (error(404), r"servers\.sft: http://fake/v1/models gives no list of models \(404\)"),
        (httpx.Response(200, text="<html>"), r"http://fake/v1/models gives no list of models \(200\); base_url looks"),
        (error(401, f"bad key {KEY}"), r"http://fake/v1 refused the key in MY_KEY \(401\)"),
    ],
)
def test_a_server_that_cannot_be_used_is_one_sentence(response: httpx.Response | Exception, complaint: str) -> None:
    def handle(_request: httpx.Request) -> httpx.Response:
        if isinstance(response, Exception):
            raise response
        return response

    server = Server(base_url="http://fake/v1", model="m", api_key_env="MY_KEY")
    client = served.client_for(server, transport=httpx.MockTransport(handle), environ={"MY_KEY": KEY})
    with pytest.raises(TeacherError, match=complaint) as caught:
        ServerStudent("sft", server, None, SETTINGS, client).check()
    assert KEY not in str(caught.value)


def test_a_server_that_asks_for_a_key_nobody_named_says_how_to_name_one() -> None:
    server = Server(base_url="http://fake/v1", model="m")
    client = served.client_for(server, transport=httpx.MockTransport(lambda _: error(401)))
    with pytest.raises(TeacherError, match=r"asks for a key \(401\): name with api_key_env the environment variable"):
        ServerStudent("sft", server, None, SETTINGS, client).check()


def test_no_key_is_sent_or_needed_where_none_is_named() -> None:
    fake = FakeServer(echo)
    server = Server(base_url="http://fake/v1", model="m")
    client = served.client_for(server, transport=fake.transport, environ={"OPENAI_API_KEY": KEY})
    ServerStudent("sft", server, None, SETTINGS, client).check()
    assert "authorization" not in fake.headers[0]


def test_the_key_goes_out_in_the_header_and_is_in_no_file_error_or_fact(tmp_path: Path) -> None:
    def leaky(body: Body) -> httpx.Response:
        content = body["messages"][-1]["content"]
        return error(400, f"odd request by {KEY}") if "2" in content else completion(f"my key is {KEY}")

    bench = Bench(leaky)
    bench.ask(tmp_path)
    assert {headers["authorization"] for headers in bench.fake.headers} == {f"Bearer {KEY}"}
    seen = (tmp_path / "replies.jsonl").read_text() + json.dumps(bench.student.facts()) + repr(bench.student)
    assert KEY not in seen
    assert "odd request by [key]" in seen


def test_a_server_of_no_model_of_the_run_is_one_sentence() -> None:
    recipe = Recipe(
        name="x", arms={"mixed": Arm(human=1)}, servers={"stf": Server(base_url="http://fake/v1", model="m")}
    )
    with pytest.raises(RecipeError) as caught:
        served.check_names(recipe, ("base", "sft", *recipe.arms))
    assert str(caught.value) == ("servers.stf: this recipe has no model of that name; its models are base, sft, mixed")


def test_a_model_with_neither_server_nor_folder_is_one_sentence() -> None:
    with pytest.raises(ModelError, match=r"neither a folder nor a server \(servers\.model\)"):
        student_for("model", Recipe(name="x"), None)


def test_only_address_and_model_decide_what_a_server_says() -> None:
    def part(**settings: Any) -> dict[str, Any]:
        server = Server(**({"base_url": "http://fake/v1", "model": "m"} | settings))
        return served.part_of(Recipe(name="x", servers={"sft": server}), "base", "sft")

    assert part() == {"servers": {"sft": {"base_url": "http://fake/v1", "model": "m"}}}
    assert part(concurrency=3, timeout_seconds=9, api_key_env="X", base_url="http://fake/v1/") == part()
    assert part(model="n") != part() != part(base_url="http://other/v1")
    assert served.part_of(Recipe(name="x"), "base", "sft") == {}


def test_several_samples_a_row_have_seeds_of_their_own_and_an_interrupted_call_goes_on(tmp_path: Path) -> None:
    first, second = Bench(), Bench()
    path = tmp_path / "replies.jsonl"
    got = first.student.ask(ROWS[:3], SAMPLING, SETTINGS, path, "test", samples=3)
    places = [(row.id, index) for row in ROWS[:3] for index in range(3)]
    assert [(reply.prompt_id, reply.sample_index) for reply in got.replies] == places
    assert len({body["seed"] for body in first.fake.bodies}) == 9
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for place, line in enumerate(lines) if place not in (1, 8)))
    again = second.student.ask(ROWS[:3], SAMPLING, SETTINGS, path, "test", samples=3)
    assert (again.replies, len(second.fake.bodies)) == (got.replies, 2)
