"""The faulty server itself: it does on the wire what its plan says, and its tally tells what was done."""

import json
import re
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from limbeck.api import wire
from limbeck.api.faults import PASSING, Fault, Faults, Tally, fate, in_burst
from limbeck.api.faulty_ledger import marked
from limbeck.api.faulty_server import Running, running


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=0.5) as client:
        yield client


def _body(key: str = "a", **more: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": f"{marked(key)} hello"}], "max_tokens": 9, **more}


def _ask(http: httpx.Client, server: Running, key: str = "a", **more: object) -> httpx.Response:
    return http.post(f"{server.url}/chat/completions", json=_body(key, **more))


def _only(fault: Fault, **more: object) -> Faults:
    return Faults.model_validate({"shares": {fault: 1.0}, "latency_seconds": (0, 0), **more})


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset_before", httpx.ReadError),
        ("reset_within", httpx.ReadError),
        ("cut_body", httpx.RemoteProtocolError),
        ("hang", httpx.ReadTimeout),
    ],
)
def test_a_broken_connection_is_broken_as_the_plan_says(
    http: httpx.Client, fault: Fault, error: type[Exception]
) -> None:
    with running(_only(fault)) as server:
        with pytest.raises(error):
            _ask(http, server)
        assert server.tally().by_how == {fault: 1}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("empty", "empty"), ("refused", "refused"), ("truncated", "truncated"), ("no_choices", "server_error"),
     ("malformed_json", "server_error")],
)  # fmt: skip
def test_a_reply_that_is_no_use_reads_as_what_it_is(http: httpx.Client, fault: Fault, reason: str) -> None:
    with running(_only(fault)) as server:
        answer = wire.read_completion(_ask(http, server).content, None)
    assert getattr(answer, "reason", None) == reason


def test_a_content_filter_shows_as_a_200_or_as_a_400(http: httpx.Client) -> None:
    with running(_only("content_filter")) as server:
        replies = [_ask(http, server, f"k{number}") for number in range(20)]
    assert {reply.status_code for reply in replies} == {200, 400}


def test_an_overlong_reply_is_longer_than_the_limit_and_counted_so(http: httpx.Client) -> None:
    with running(_only("overlong")) as server:
        reply = _ask(http, server, max_tokens=50).json()
        assert server.tally().tokens_out == reply["usage"]["completion_tokens"] == 101
    assert len(reply["choices"][0]["message"]["content"].split()) > 50


def test_a_good_reply_keeps_the_limit_and_has_the_fields_of_the_schema(http: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"revised": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with running(Faults()) as server:
        reply = _ask(http, server, response_format=wanted).json()
    assert reply["usage"]["completion_tokens"] == 9
    assert list(json.loads(reply["choices"][0]["message"]["content"])) == ["revised"]


@pytest.mark.parametrize(("form", "pattern"), [("none", None), ("seconds", r"2$"), ("date", r"\w{3}, .* GMT$")])
def test_a_429_says_when_to_come_back_in_the_form_of_the_plan(
    http: httpx.Client, form: str, pattern: str | None
) -> None:
    with running(_only("rate_limited", retry_after=(form,), retry_after_seconds=2)) as server:
        reply = _ask(http, server)
    assert reply.status_code == 429
    told = reply.headers.get("Retry-After")
    assert told is None if pattern is None else re.match(pattern, told)


def test_a_connection_is_kept_and_one_that_is_hung_up_brings_its_reply_first(http: httpx.Client) -> None:
    with running(Faults()) as server:
        assert all(_ask(http, server, f"k{n}").is_success for n in range(5))
        assert server.tally().connections == 2  # ours, and the one that asks for the tally
    with running(_only("hangs_up")) as server:
        assert _ask(http, server).is_success


def test_more_at_once_or_a_minute_than_the_server_takes_is_429(http: httpx.Client) -> None:
    with running(Faults(requests_per_minute=3)) as server:
        assert [_ask(http, server, f"k{n}").status_code for n in range(5)] == [200, 200, 200, 429, 429]


def test_a_client_that_leaves_before_its_reply_is_noted_as_gone(http: httpx.Client) -> None:
    with running(Faults(latency_seconds=(2, 2))) as server:
        with pytest.raises(httpx.ReadTimeout):
            _ask(http, server)
        http.close()
        arrivals = server.tally().arrivals["a"]
    assert [(arrival.how, arrival.gone) for arrival in arrivals] == [("answered", True)]


def test_sending_again_after_an_answer_is_counted_and_after_a_fault_is_not() -> None:
    def tally(*hows: str) -> Tally:
        return Tally.model_validate({"arrivals": {"a": [{"how": how} for how in hows]}})

    assert tally("answered").resends_beyond_faults == 0
    assert tally("hang", "server_error", "answered").resends_beyond_faults == 0
    assert tally("answered", "answered").resends_beyond_faults == 1
    assert tally("refused", "answered").resends_beyond_faults == 1
    gone = {"arrivals": {"a": [{"how": "answered", "gone": True}, {"how": "answered"}]}}
    assert Tally.model_validate(gone).resends_beyond_faults == 0


def test_the_plan_depends_on_seed_key_and_count_and_keeps_its_shares() -> None:
    faults = Faults.spread(0.28, seed=5)
    fates = [fate(faults, f"k{n}", 0, n) for n in range(4000)]
    again = [fate(faults, f"k{n}", 0, n) for n in range(4000)]
    assert [one[:3] for one in fates] == [one[:3] for one in again]
    counts = Counter(one.how for one in fates)
    expected = 4000 * 0.28 / 14
    others = [counts[how] for how in faults.shares if how != "rate_limited"]
    assert all(expected / 2 < count < 2 * expected for count in others)  # 80 each; a standard deviation is 9
    assert counts["rate_limited"] % faults.burst == 0  # whole bursts
    assert counts["rate_limited"] == sum(in_burst(faults, n) for n in range(4000)) > 0
    assert set(PASSING) < set(faults.shares)
