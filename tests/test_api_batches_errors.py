"""What a batch API can say no with, each in one sentence; and the key, which is in none."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from batch_bench import KEY, Bench, answered, echo, worst_tokens
from pydantic import ValidationError

from limbeck.api import ChatClient, Failed, ReplyStore
from limbeck.api.batch_client import BatchClient
from limbeck.api.batch_wire import read_line
from limbeck.api.costs import Terms, budget_of
from limbeck.api.fake_batches import FakeBatches
from limbeck.api.fake_server import Body, FakeServer, completion, error
from limbeck.api.prices import Price, find_price
from limbeck.errors import TeacherError
from limbeck.recipe.pairs import Endpoint, Structured, Teach
from limbeck.records import PromptRow, user_prompt
from limbeck.teachers import OpenAITeacher, ask
from limbeck.teachers.rendering import zero_shot_request


def always(path: str, *answers: httpx.Response) -> Any:
    """Answers requests for a path with these in turn, the last one for ever."""
    left = list(answers)

    def first(asked: httpx.Request) -> httpx.Response | None:
        if f"{asked.method} {asked.url.path}" != path:
            return None
        return left.pop(0) if len(left) > 1 else left[0]

    return first


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("POST /v1/files", error(404), r"http://fake/v1 has no batch API \(404 at /files\): set teach.batch = false"),
        ("POST /v1/batches", error(405), r"no batch API \(405 at /batches\)"),
        ("POST /v1/files", error(401), "refused the key in OPENAI_API_KEY"),
        ("POST /v1/files", error(400, "file is odd"), "answered 400 at /files: file is odd"),
        ("POST /v1/files", error(429, code="insufficient_quota"), "has no credit left"),
        ("POST /v1/batches", error(429, "slow"), "made no batch after 3 attempts .429: slow"),
        ("POST /v1/files", httpx.Response(200, json={"ok": 1}), "what is not OpenAI's batch API"),
    ],
)
def test_a_server_that_makes_no_batch_is_one_sentence_and_costs_nothing(
    tmp_path: Path, path: str, answer: httpx.Response, words: str
) -> None:
    bench = Bench(tmp_path, FakeBatches(echo, first=always(path, answer)))
    with pytest.raises(TeacherError, match=words):
        bench.ask(2)
    with bench.store() as store:
        assert store.spent().tokens == 0


def test_what_may_pass_is_tried_again_and_retry_after_is_honoured(tmp_path: Path) -> None:
    busy = always("GET /v1/batches/batch_0", error(503), error(429, retry_after="9"), httpx.Response(200, text="x"))
    bench = Bench(tmp_path, FakeBatches(echo, first=busy))
    with pytest.raises(TeacherError, match="not OpenAI's batch API"):
        bench.ask(1)
    assert bench.waits[2] == 9
    bench.server.first = lambda _: None
    assert bench.ask(1) == [answered("k0")]
    assert len(bench.server.batches) == 1


def test_an_hour_without_a_network_ends_no_waiting(tmp_path: Path) -> None:
    left = [100]

    def away(asked: httpx.Request) -> None:
        if asked.url.path == "/v1/batches/batch_0" and left[0]:
            left[0] -= 1
            raise httpx.ConnectError("no route")

    bench = Bench(tmp_path, FakeBatches(echo, after=away))
    assert bench.ask(1) == [answered("k0")]


def test_a_failed_validation_is_quoted_and_its_requests_can_be_sent_anew(tmp_path: Path) -> None:
    errors = [{"code": "invalid_json_line", "message": f"bad line for {KEY}", "line": 2}, {"message": "and more"}]
    bench = Bench(tmp_path, FakeBatches(echo, ends_as="failed", errors=errors))
    with pytest.raises(TeacherError, match=r"took no request of the batch batch_0: line 2: bad line for \[key\]; and"):
        bench.ask(2)
    with bench.store() as store:
        assert store.spent().tokens == 0
    bench.server.ends_as = ""
    assert bench.ask(2) == [answered("k0"), answered("k1")]


def test_where_an_account_may_not_have_so_many_tokens_waiting_batches_are_halved_and_go_one_at_a_time(
    tmp_path: Path,
) -> None:
    told = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]
    bench = Bench(tmp_path, FakeBatches(echo, ends_as="failed", errors=told))

    def relent(asked: httpx.Request) -> httpx.Response | None:
        if asked.method == "POST" and asked.url.path == "/v1/batches":
            file_id = json.loads(asked.content)["input_file_id"].removeprefix("file-")
            waiting = any(batch.status == "in_progress" for batch in bench.server.batches)
            fits = len(bench.server.uploads[int(file_id)].splitlines()) <= 2 and not waiting
            bench.server.ends_as = "" if fits else "failed"
        return None

    bench.server.first = relent
    assert bench.ask(7) == [answered(f"k{n}") for n in range(7)]
    assert [len(batch.requests) for batch in bench.server.batches] == [7, 4, 2, 2, 2, 1]
    bench.server.first, bench.server.ends_as = lambda _: None, "failed"
    with pytest.raises(TeacherError, match="Enqueued token limit reached"):
        bench.ask(["one"])


def test_an_unknown_batch_is_not_bought_again_in_silence(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(echo, first=always("GET /v1/batches/batch_0", error(404))))
    with pytest.raises(TeacherError, match=r"does not know the batch batch_0 \(404\).*teach\.batch = false"):
        bench.ask(1)
    assert len(bench.server.batches) == 1


@pytest.mark.parametrize("ends_as", ["completed", "expired"])
def test_answers_that_are_gone_are_not_bought_again_in_silence_and_keep_their_worst_case(
    tmp_path: Path, ends_as: str
) -> None:
    """Not even in the books, and they stand in no other recipe's way."""

    def first(asked: httpx.Request) -> httpx.Response | None:
        if asked.url.path == "/v1/batches/batch_0":  # of a server that counts nothing
            batch = bench.server.batches[0]
            batch.ends_as, batch.looks_left = ends_as, 0
            return httpx.Response(200, json=batch.shown() | {"request_counts": None})
        return error(404) if asked.url.path == "/v1/files/batch_0-output/content" else None

    bench = Bench(tmp_path, FakeBatches(echo, first=first))
    with pytest.raises(TeacherError, match=r"batch_0-output with answers of the batch batch_0 \(404\).*teach\.batch"):
        bench.ask(1)
    assert len(bench.server.batches) == 1
    assert bench.ask(["other"]) == [answered("other")]
    with bench.store() as store:
        assert store.spent().tokens == worst_tokens("k0") + 18
        assert store.attempts() == {"lost": 1, "settled": 1}


def test_a_batch_that_never_ends_is_given_up_after_26_hours(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(echo, looks=10**6))
    with pytest.raises(TeacherError, match="batch_0 is still 'in_progress' after 26 hours"):
        bench.ask(1)
    assert 26 * 3600 < sum(bench.waits) <= 26 * 3600 + 60


def test_a_refusal_that_no_request_survives_is_final_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    def answer(body: Body) -> httpx.Response:
        return error(403, f"no access with {KEY}") if "k1" in str(body) else echo(body)

    bench = Bench(tmp_path, FakeBatches(answer))
    with pytest.raises(
        TeacherError, match=r"refused the requests of the batch batch_0 \(403: no access with \[key\]\)"
    ):
        bench.ask(2)
    with bench.store() as store:
        assert store.get("k0") == answered("k0")
        assert store.spent().tokens == 18


def test_the_key_goes_out_in_the_header_and_is_in_no_byte_of_the_store(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(lambda _: completion(f"your key is {KEY}")))
    bench.ask(2)
    assert {headers["authorization"] for headers in bench.server.headers} == {f"Bearer {KEY}"}
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"your key is [key]" in kept
    assert KEY.encode() not in kept + b"".join(bench.server.uploads)
    assert KEY not in repr(bench.batching) + str(bench.notes)


@pytest.mark.parametrize("content", [b"", b"null", b"[1]", b'{"custom_id": 3}', b'{"response": {}}', b"\xff{"])
def test_a_line_that_names_no_request_is_none(content: bytes) -> None:
    assert read_line(content, None) is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"response": None, "error": None}, "server_error"),
        ({"response": {"status_code": 200, "body": {}}}, "server_error"),
        ({"response": {"status_code": 429, "body": {"error": {"message": "busy"}}}}, "rate_limited"),
        ({"response": {"status_code": 400, "body": {"error": {"code": "content_filter"}}}}, "content_filter"),
        ({"error": {"code": "batch_cancelled"}}, "server_error"),
        ({"response": 7, "error": "x"}, "server_error"),
    ],
)
def test_a_line_without_a_usable_answer_is_a_typed_failure(line: Body, reason: str) -> None:
    read = read_line(json.dumps({"custom_id": "k"} | line).encode(), None)
    assert read is not None and isinstance(read.answer, Failed) and read.answer.reason == reason


def test_a_teacher_with_teach_batch_asks_in_batches_and_without_it_one_by_one(tmp_path: Path) -> None:
    one_by_one, batches = FakeServer(lambda _: completion("x")), FakeBatches(lambda _: completion("x"))
    requests = [
        zero_shot_request(PromptRow(id=str(n), prompt=user_prompt(f"What is {n}?"), source="s")) for n in range(3)
    ]
    endpoint = Endpoint(base_url="http://fake/v1", api_key_env="OPENAI_API_KEY")

    async def sleep(_seconds: float) -> None:
        return

    def teacher(batch: bool) -> OpenAITeacher:
        environ = {"OPENAI_API_KEY": KEY}
        client = ChatClient(endpoint, transport=one_by_one.transport, environ=environ)
        batch_client = BatchClient(endpoint, transport=batches.transport, sleep=sleep, environ=environ)
        return OpenAITeacher("m", Teach(teacher="openai:m", endpoint=endpoint, batch=batch), client, batch_client)

    with ReplyStore(tmp_path / "r.sqlite") as store:
        kept = ask(teacher(True), requests[:2], store)
        assert (len(batches.batches[0].requests), one_by_one.bodies) == (2, [])
        assert ask(teacher(False), requests, store)[:2] == kept  # the same replies, whichever way they came
    assert (len(batches.batches), len(one_by_one.bodies)) == (1, 1)
    assert next(iter(batches.batches[0].requests.values())) == one_by_one.bodies[0] | {
        "messages": [message.model_dump() for message in requests[0].messages]
    }
    assert teacher(True).facts() == {"batch": True}


@pytest.mark.parametrize(("wanted", "taken"), [("json_schema", "json_object"), ("json_object", "none")])
def test_who_insists_on_a_form_is_told_where_a_batch_does_not_take_it(
    tmp_path: Path, wanted: Structured, taken: str
) -> None:
    def answer(body: Body) -> httpx.Response:
        asked = body.get("response_format", {"type": "none"})["type"]
        return completion("{}") if asked == taken else error(400, f"unsupported: {asked}", param="response_format")

    async def sleep(_seconds: float) -> None:
        return

    endpoint, batches = Endpoint(base_url="http://fake/v1"), FakeBatches(answer)
    client = BatchClient(endpoint, transport=batches.transport, sleep=sleep, environ={})
    settings = Teach(teacher="openai:m", endpoint=endpoint, batch=True, structured=wanted)
    teacher = OpenAITeacher("m", settings, batch_client=client)
    row = PromptRow(id="1", prompt=user_prompt("What is 1?"), source="s")
    with ReplyStore(tmp_path / "r.sqlite") as store:
        with pytest.raises(
            TeacherError,
            match=f"teach.structured is '{wanted}', and http://fake/v1 does not take that for 'm'; set it to 'auto'",
        ):
            ask(teacher, [zero_shot_request(row)], store)
        assert store.states() == {"sent": 1}
        assert store.spent().tokens == 0
    assert len(batches.batches) == 1
    assert teacher.facts() == {"batch": True}


def test_a_batch_costs_half_at_openai_and_the_full_price_where_an_own_list_names_no_factor(tmp_path: Path) -> None:
    own = tmp_path / "prices.toml"
    own.write_text('date = "2026-11-01"\n[models]\nm = { input = 1, output = 2 }\n')
    listed = find_price("m", own, batch=True)
    assert listed is not None and listed.price == Price(input=1, output=2)
    settings = Teach.model_validate({"teacher": "openai:gpt-4o", "batch": True, "budget": {"usd": 5}})
    terms = Terms("teach.budget", settings.budget, settings.endpoint, batch=settings.batch)
    assert budget_of("gpt-4o", terms, True).price == Price(input=1.25, output=5.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "batch = true needs an `openai:MODEL` as teacher; 'worked' has no batch API"),
        (
            {"teacher": "openai:m", "endpoint": {"style": "azure", "base_url": "https://x.openai.azure.com"}},
            "batch = true needs endpoint.style = \"openai\", not 'azure'",
        ),
    ],
)
def test_batches_are_openais_only(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Teach.model_validate({"batch": True} | settings)
    assert words in str(caught.value)
