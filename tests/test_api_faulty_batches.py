"""The batch endpoints of the faulty server behave as OpenAI's documents say, and as its bad days do."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_load import load_calls, names

from limbeck.api import Answer, Answered, ReplyStore
from limbeck.api.batch_client import BatchClient
from limbeck.api.batch_results import Batching
from limbeck.api.batches import ask_in_batches
from limbeck.api.faults import BatchPlan, Faults
from limbeck.api.faulty_ledger import marked
from limbeck.api.faulty_server import Running, running
from limbeck.recipe.pairs import Endpoint


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=5) as client:
        yield client


def _lines(number: int) -> str:
    body = {"model": "m", "max_tokens": 50}
    rows = [
        {
            "custom_id": f"line-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": body | {"messages": [{"role": "user", "content": marked(f"b{n}")}]},
        }
        for n in range(number)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _upload(http: httpx.Client, server: Running, lines: str) -> str:
    files = {"file": ("in.jsonl", lines.encode(), "application/jsonl")}
    uploaded = http.post(f"{server.url}/files", data={"purpose": "batch"}, files=files).json()
    assert uploaded["bytes"] == len(lines.encode())
    return str(uploaded["id"])


def _create(http: httpx.Client, server: Running, file_id: str) -> str:
    asked = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    created = http.post(f"{server.url}/batches", json=asked | {"metadata": {"run": "1"}}).json()
    assert created["status"] == "validating"
    assert created["metadata"] == {"run": "1"}
    return str(created["id"])


def _ended(http: httpx.Client, server: Running, name: str) -> dict[str, Any]:
    for _ in range(10):
        shown: dict[str, Any] = http.get(f"{server.url}/batches/{name}").json()
        if shown["status"] not in ("validating", "in_progress", "cancelling"):
            return shown
    raise AssertionError(shown)


def _content(http: httpx.Client, server: Running, file_id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in http.get(f"{server.url}/files/{file_id}/content").text.splitlines()]


def _run(http: httpx.Client, server: Running, lines: str) -> dict[str, Any]:
    return _ended(http, server, _create(http, server, _upload(http, server, lines)))


def test_a_batch_completes_after_its_polls_with_good_and_failed_lines_in_two_files(http: httpx.Client) -> None:
    with running(Faults(batches=BatchPlan(polls=3, failing=0.3))) as server:
        name = _create(http, server, _upload(http, server, _lines(30)))
        looks = [http.get(f"{server.url}/batches/{name}").json()["status"] for _ in range(3)]
        assert looks == ["in_progress", "in_progress", "completed"]
        shown = http.get(f"{server.url}/batches/{name}").json()
        good = _content(http, server, shown["output_file_id"])
        bad = _content(http, server, shown["error_file_id"])
        tally = server.tally()
    assert shown["request_counts"] == {"total": 30, "completed": len(good), "failed": len(bad)}
    assert {line["custom_id"] for line in good + bad} == {f"line-{n}" for n in range(30)}
    assert [line["custom_id"] for line in good] != sorted(line["custom_id"] for line in good)
    assert {line["response"]["status_code"] for line in good} == {200}
    assert {line["response"]["status_code"] for line in bad} == {400}
    assert tally.by_how == {"answered": len(good), "bad_request": len(bad)}
    assert all(arrival.batch for arrivals in tally.arrivals.values() for arrival in arrivals)


def test_an_expired_batch_gives_what_was_done_and_names_the_rest(http: httpx.Client) -> None:
    with running(Faults(batches=BatchPlan(polls=1, fates=("expired", "completed"), done=0.4))) as server:
        first, second = _run(http, server, _lines(10)), _run(http, server, _lines(2))
        bad = _content(http, server, first["error_file_id"])
    assert (first["status"], second["status"]) == ("expired", "completed")
    assert first["request_counts"] == {"total": 10, "completed": 4, "failed": 6}
    assert {line["error"]["code"] for line in bad} == {"batch_expired"}
    assert {line["response"] for line in bad} == {None}
    assert second["error_file_id"] is None


def test_a_batch_can_be_cancelled_until_it_has_ended(http: httpx.Client) -> None:
    with running(Faults(batches=BatchPlan(polls=5))) as server:
        name = _create(http, server, _upload(http, server, _lines(4)))
        assert http.post(f"{server.url}/batches/{name}/cancel").json()["status"] == "cancelling"
        assert _ended(http, server, name)["status"] == "cancelled"
        assert http.post(f"{server.url}/batches/{name}/cancel").status_code == 409


@pytest.mark.parametrize(
    ("lines", "code"),
    [("", "empty_file"), ("{\n", "invalid_json_line"), (_lines(1) * 2, "duplicate_custom_id")],
)
def test_a_file_that_is_not_valid_fails_its_batch_and_says_where(http: httpx.Client, lines: str, code: str) -> None:
    with running(Faults()) as server:
        shown = _run(http, server, lines)
        assert server.tally().requests == 0
    assert shown["status"] == "failed"
    assert shown["errors"]["data"][0]["code"] == code


def test_batches_are_listed_from_the_newest_on_by_page(http: httpx.Client) -> None:
    with running(Faults()) as server:
        names = [_create(http, server, _upload(http, server, _lines(1))) for _ in range(3)]
        first = http.get(f"{server.url}/batches", params={"limit": 2}).json()
        after = {"limit": 2, "after": first["data"][-1]["id"]}
        second = http.get(f"{server.url}/batches", params=after).json()
    assert [batch["id"] for batch in first["data"] + second["data"]] == names[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)


def test_an_unsteady_desk_loses_replies_of_what_it_carried_out(http: httpx.Client) -> None:
    with running(Faults(batches=BatchPlan(unsteady=1.0))) as server:
        lost = 0
        for _ in range(12):
            try:
                reply = http.get(f"{server.url}/batches")
                assert reply.status_code == 503
            except httpx.TransportError:
                lost += 1
    assert 0 < lost < 12


def test_nothing_is_bought_twice_of_batches_that_expire_are_cancelled_and_whose_answers_are_lost(
    tmp_path: Path,
) -> None:
    async def sleep(_seconds: float) -> None:
        return

    def ask(url: str, store: ReplyStore) -> dict[str, Answer]:
        endpoint = Endpoint(base_url=url, max_retries=12, timeout_seconds=5)
        batching = Batching(BatchClient(endpoint, sleep=sleep, environ={}), lambda request: request, most_requests=25)
        return ask_in_batches(load_calls(url, names("b", 50)), batching, store)

    fates = BatchPlan(polls=2, fates=("expired", "cancelled", "completed"), failing=0.1, done=0.6, unsteady=0.4)
    with running(Faults(batches=fates)) as server, ReplyStore(tmp_path / "r.sqlite") as store:
        answers = ask(server.url, store)
        tally = server.tally()
        assert tally.resends_beyond_faults == 0
        assert set(tally.arrivals) == set(names("b", 50))
        assert tally.by_how["bad_request"] > 0
        assert store.spent().tokens == tally.tokens_in + tally.tokens_out
        assert store.attempts() == {"settled": sum(store.times_sent().values())}
        assert max(store.times_sent().values()) > 1
    by_how = Counter("answered" if isinstance(answer, Answered) else answer.reason for answer in answers.values())
    assert by_how == tally.by_how
