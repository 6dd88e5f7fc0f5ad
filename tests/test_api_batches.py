"""Batches: everything is bought once, whatever is lost on the way, and the budget holds."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from batch_bench import MOST_OUT, Bench, Killed, answered, echo, request, worst_tokens

from limbeck.api import ChatRequest, Failed
from limbeck.api.budget import Budget
from limbeck.api.fake_batches import FakeBatches
from limbeck.api.fake_server import Body, completion, error
from limbeck.api.prices import Price
from limbeck.errors import BudgetError


def bought(server: FakeBatches) -> list[str]:
    return [key for batch in server.batches for key in batch.requests]


def on(method_and_path: str, times: int = 1, skip: int = 0) -> Callable[[httpx.Request], None]:
    """Kill the run at such a request: `skip` are let pass, then `times` are not."""
    seen = 0

    def strike(asked: httpx.Request) -> None:
        nonlocal seen
        if f"{asked.method} {asked.url.path}" == method_and_path:
            seen += 1
            if skip < seen <= skip + times:
                raise Killed

    return strike


def test_a_batch_is_uploaded_made_waited_for_and_its_answers_come_back_by_key(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(echo))
    assert bench.ask(3) == [answered("k0"), answered("k1"), answered("k2")]
    assert bench.server.asked == [
        "POST /v1/files", "POST /v1/batches", "GET /v1/batches/batch_0", "GET /v1/batches/batch_0",
        "GET /v1/files/batch_0-output/content",
    ]  # fmt: skip
    assert json.loads(bench.server.uploads[0].splitlines()[0]) == {
        "custom_id": "k0",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": request("question k0").body(),
    }
    assert sorted(bench.told) == [("k0", False), ("k1", False), ("k2", False)]


def test_what_the_store_has_is_not_sent_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(echo))
    bench.ask(2)
    assert bench.ask(3) == [answered("k0"), answered("k1"), answered("k2")]
    assert bought(bench.server) == ["k0", "k1", "k2"]


def test_looks_at_a_batch_come_after_5_seconds_then_ever_more_rarely_up_to_60_and_say_how_it_stands(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, FakeBatches(echo, looks=9))
    bench.ask(2)
    assert bench.waits == [5.0, 7.5, 11.25, 16.875, 25.3125, 37.96875, 56.953125, 60.0, 60.0]
    assert bench.notes[0] == "batch batch_0: sent, 0 of 2 answered, 0:00 since it was sent"
    assert bench.notes[2] == "batch batch_0: in_progress, 0 of 2 answered, 0:13 since it was sent"


def test_calls_are_split_by_the_servers_limits_of_requests_and_of_bytes(tmp_path: Path) -> None:
    by_number = Bench(tmp_path / "number", FakeBatches(echo), most_requests=2)
    assert by_number.ask(5) == [answered(f"k{n}") for n in range(5)]
    assert [list(batch.requests) for batch in by_number.server.batches] == [["k0", "k1"], ["k2", "k3"], ["k4"]]
    line = len(by_number.server.uploads[0]) // 2
    by_size = Bench(tmp_path / "size", FakeBatches(echo), most_bytes=3 * line)
    by_size.ask(4)
    assert [len(upload) for upload in by_size.server.uploads] == [3 * line, line]


def test_a_line_that_failed_is_free_and_the_others_cost_what_the_server_counted(tmp_path: Path) -> None:
    def answer(body: Body) -> httpx.Response:
        content = body["messages"][0]["content"]
        if "k1" in content:
            return error(400, "too long")
        return completion("half", "length") if "k2" in content else echo(body)

    bench = Bench(tmp_path, FakeBatches(answer))
    assert bench.ask(3) == [
        answered("k0"),
        Failed(reason="bad_request", detail="too long"),
        Failed(reason="truncated", text="half", tokens_in=7, tokens_out=11),
    ]
    with bench.store() as store:
        assert store.spent().tokens == 2 * 18
        assert store.attempts() == {"settled": 3}
        assert store.states() == {"done": 2, "failed": 1}
        assert '"too long"' in store.bodies("k1")[0]


def test_a_completion_whose_tokens_were_not_counted_keeps_its_worst_case(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(lambda _: completion("x", tokens_out=None)))
    bench.ask(1)
    with bench.store() as store:
        assert store.spent().tokens == worst_tokens("k0")


@pytest.mark.parametrize("counted", ["prompt_tokens", "completion_tokens"])
def test_a_count_that_a_line_leaves_out_keeps_its_worst_case(counted: str, tmp_path: Path) -> None:
    choice = {"message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    body = {"choices": [choice], "usage": {counted: 2}}
    bench = Bench(tmp_path, FakeBatches(lambda _: httpx.Response(200, json=body)))
    bench.ask(1)
    worst_in = worst_tokens("k0") - MOST_OUT
    with bench.store() as store:
        assert store.spent().tokens == 2 + (MOST_OUT if counted == "prompt_tokens" else worst_in)


def test_requests_that_expired_are_asked_again_twice_and_then_are_typed_failures(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(lambda body: None if "k1" in str(body) else echo(body)))
    good, failed = bench.ask(2)
    assert good == answered("k0")
    assert isinstance(failed, Failed) and failed.reason == "timed_out" and "expired" in failed.detail
    assert bought(bench.server) == ["k0", "k1", "k1", "k1"]
    with bench.store() as store:
        assert store.spent().tokens == 18


def test_a_request_that_expired_once_is_answered_by_the_next_batch(tmp_path: Path) -> None:
    seen: list[str] = []

    def answer(body: Body) -> httpx.Response | None:
        seen.append(body["messages"][0]["content"])
        return echo(body) if len(seen) > 2 or "k0" in seen[-1] else None

    bench = Bench(tmp_path, FakeBatches(answer, ends_as="cancelled"))
    assert bench.ask(2) == [answered("k0"), answered("k1")]
    assert bought(bench.server) == ["k0", "k1", "k1"]


@pytest.mark.parametrize("ends_as", ["completed", "expired"])
def test_a_line_that_is_missing_though_it_may_have_been_answered_keeps_its_worst_case_and_is_asked_again(
    tmp_path: Path, ends_as: str
) -> None:
    def lose_one(asked: httpx.Request) -> httpx.Response | None:
        if asked.url.path != "/v1/files/batch_0-output/content":
            return None
        lines = [line for line in bench.server.batches[0].results["output"] if line["custom_id"] == "k0"]
        return httpx.Response(200, text=json.dumps(lines[0]))

    def end_early(asked: httpx.Request) -> None:
        if asked.url.path == "/v1/batches":
            bench.server.batches[0].ends_as = ends_as

    bench = Bench(tmp_path, FakeBatches(echo, first=lose_one, after=end_early))
    assert bench.ask(2) == [answered("k0"), answered("k1")]
    assert bought(bench.server) == ["k0", "k1", "k1"]
    with bench.store() as store:
        assert store.attempts() == {"lost": 1, "settled": 2}
        assert store.spent().tokens == worst_tokens("k1") + 2 * 18


def test_a_parameter_that_the_server_names_is_left_out_in_the_next_batch(tmp_path: Path) -> None:
    def answer(body: Body) -> httpx.Response:
        if "max_tokens" in body:
            return error(400, "use max_completion_tokens", param="max_tokens")
        return error(400, "only 1", param="temperature") if "temperature" in body else echo(body)

    bench = Bench(tmp_path, FakeBatches(answer))
    assert bench.ask(2) == [answered("k0"), answered("k1")]
    assert len(bench.server.batches) == 3
    assert bench.server.batches[2].requests["k1"] == {
        "model": "m",
        "messages": [{"role": "user", "content": "question k1"}],
        "max_completion_tokens": MOST_OUT,
    }
    assert bench.batching.adaptations == {"max_completion_tokens for max_tokens", "without temperature"}


@pytest.mark.parametrize(
    ("place", "skip"),
    [("GET /v1/batches/batch_0", 0), ("GET /v1/batches/batch_1", 1), ("GET /v1/files/batch_0-output/content", 0)],
)
def test_a_run_that_was_killed_while_it_waited_goes_on_waiting_and_buys_nothing_again(
    tmp_path: Path, place: str, skip: int
) -> None:
    bench = Bench(tmp_path, FakeBatches(echo, after=on(place, skip=skip)), most_requests=2)
    with pytest.raises(Killed):
        bench.ask(4)
    assert bench.ask(4) == [answered(f"k{n}") for n in range(4)]
    assert bought(bench.server) == ["k0", "k1", "k2", "k3"]
    with bench.store() as store:
        assert store.spent().tokens == 4 * 18
        assert set(store.times_sent().values()) == {1}


def test_a_batch_whose_id_was_lost_with_the_run_is_found_in_the_servers_list_by_its_mark(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(echo, page=2))
    other = Bench(tmp_path / "other", bench.server, most_requests=1)
    bench.server.after = on("POST /v1/batches")
    with pytest.raises(Killed):
        bench.ask(2)
    other.ask(5)  # somebody else's batches, of the same account
    assert bench.ask(2) == [answered("k0"), answered("k1")]
    assert len(bench.server.batches) == 1 + 5
    assert bench.server.asked.count("GET /v1/batches") == 3
    with bench.store() as store:
        assert store.spent().tokens == 2 * 18


def test_a_batch_that_was_never_made_is_sent_after_its_request_must_be_dead_and_its_worst_case_is_freed(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, FakeBatches(echo, first=on("POST /v1/batches")))
    with pytest.raises(Killed):
        bench.ask(1)
    assert bench.server.batches == []
    assert bench.ask(1, Budget(tokens=worst_tokens("k0"))) == [answered("k0")]
    assert sum(bench.waits[:-2]) == 160  # 100 that a request may take, and 60


def test_a_run_that_was_killed_before_anything_was_made_leaves_nothing_set_aside(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(echo, after=on("POST /v1/files")))
    with pytest.raises(Killed):
        bench.ask(3)
    with bench.store() as store:
        assert store.spent().tokens == sum(worst_tokens(f"k{n}") for n in range(3))
    bench.ask(1)
    with bench.store() as store:
        assert store.spent().tokens == 18
    assert bought(bench.server) == ["k0"]


def test_a_lost_answer_to_the_making_of_a_batch_makes_no_second_one(tmp_path: Path) -> None:
    lost: list[int] = []

    def lose(asked: httpx.Request) -> None:
        if asked.method == "POST" and asked.url.path == "/v1/batches" and not lost:
            lost.append(1)
            raise httpx.ReadTimeout("")

    bench = Bench(tmp_path, FakeBatches(echo, after=lose))
    assert bench.ask(2) == [answered("k0"), answered("k1")]
    assert len(bench.server.batches) == 1


def test_a_batch_of_another_recipe_is_settled_where_it_has_ended_and_not_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(echo, looks=3, after=on("GET /v1/batches/batch_0")))
    with pytest.raises(Killed):
        bench.ask(["old"])
    assert bench.ask(["new"]) == [answered("new")]
    assert bench.server.asked.count("GET /v1/batches/batch_0") == 2
    assert bench.ask(["newer"]) == [answered("newer")]
    with bench.store() as store:
        assert store.get("old") == answered("old")
        assert store.spent().tokens == 3 * 18


def test_as_many_calls_go_out_as_the_budget_allows_and_what_they_leave_of_it_buys_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(echo))
    limit = 2 * worst_tokens("k0") + 40
    with pytest.raises(BudgetError, match=r"tokens are spent or set aside.*raise teach\.budget"):
        bench.ask(30, Budget(tokens=limit))
    sizes = [len(batch.requests) for batch in bench.server.batches]
    assert sizes[:2] == [2, 2]
    with bench.store() as store:
        assert store.spent().tokens == 18 * sum(sizes)
        assert store.spent().tokens + worst_tokens("k9") > limit
        assert store.states() == {"done": sum(sizes)}


def test_a_budget_of_money_is_counted_by_the_price_of_a_batch(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(echo))
    bench.ask(1, Budget(usd=1, price=Price(input=2.0, output=8.0).times(0.5)))
    with bench.store() as store:
        assert store.spent().nano_dollars == 7 * 1000 + 11 * 4000


def test_a_batch_is_settled_at_the_price_that_it_was_sent_at(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(echo, after=on("GET /v1/batches/batch_0")))
    with pytest.raises(Killed):
        bench.ask(["old"], Budget(usd=5, price=Price(input=100, output=200)))
    bench.ask(["new"], Budget(usd=5, price=Price(input=1, output=2)))
    with bench.store() as store:
        assert store.spent().nano_dollars == (7 * 100 + 11 * 200 + 7 * 1 + 11 * 2) * 1000


def test_requests_are_written_up_to_the_first_that_the_budget_has_no_room_for(tmp_path: Path) -> None:
    def write(question: str) -> ChatRequest:
        written.append(question)
        return request(question)

    written: list[str] = []
    bench = Bench(tmp_path, FakeBatches(echo))
    bench.request = write
    with pytest.raises(BudgetError):
        bench.ask(200, Budget(tokens=2 * worst_tokens("k0")))
    assert len(written) <= 3 * len(bench.server.batches) + 1


def test_a_server_that_takes_more_than_it_may_gets_no_further_batch(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeBatches(lambda _: completion("x", tokens_out=MOST_OUT + 1)))
    with pytest.raises(BudgetError, match="more than it was allowed"):
        bench.ask(9, Budget(tokens=3 * worst_tokens("k0")))
    assert bought(bench.server) == ["k0", "k1", "k2"]
