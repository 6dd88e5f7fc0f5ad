"""Replies that do not parse are asked for again, a counted few times; every other failure is what it is at once."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from limbeck import tasks
from limbeck.api import ChatClient
from limbeck.api.fake_server import Body, FakeServer, completion, error
from limbeck.errors import InputError, TeacherError
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.records import Pair, WeakPrompt, user_prompt
from limbeck.stages import teach
from limbeck.store import read_records, write_records
from limbeck.teachers import OpenAITeacher

WEAK = [WeakPrompt(id=f"w{n}", prompt=user_prompt(f"Weak prompt {n}"), source="s") for n in range(40)]
GOOD = json.dumps({"preferred": "good", "dispreferred": "bad"})
MALFORMED = {
    "parse: not JSON": "Sure! Here are two JSON objects: " + GOOD + GOOD,
    "parse: markdown": f"```json\n{GOOD}\n{GOOD}\n```",
    "parse: not an object": f"[{GOOD}]",
    "parse: missing key": '{"preferred": "good"}',
    "parse: extra key": '{"preferred": "good", "dispreferred": "bad", "why": "so"}',
    "parse: duplicate key": '{"preferred": "good", "preferred": "good", "dispreferred": "bad"}',
    "parse: not a string": '{"preferred": "good", "dispreferred": ["bad"]}',
    "parse: empty answer": '{"preferred": "good", "dispreferred": "  "}',
    "parse: equal answers": '{"preferred": "good", "dispreferred": "good"}',
    "parse: not Unicode text": '{"preferred": "\\udc00", "dispreferred": "bad"}',
    "parse: answer too long": json.dumps({"preferred": "x" * 60_000, "dispreferred": "bad"}),
    "parse: reply too long": "x" * 300_000,
}


def taught(
    answer: Callable[[Body], httpx.Response], folder: Path, count: int = 4, reasks: int = 1, **settings: Any
) -> tuple[FakeServer, StageResult, list[Pair]]:
    endpoint = {"base_url": "http://fake/v1", "max_retries": 0, "concurrency": 1}
    asked = Recipe.model_validate(
        {
            "name": "r",
            "arms": {"a": {"zero_shot": count}},
            "mix": {"heldout_pairs": 0},
            "teach": {"endpoint": endpoint, "reasks": reasks, **settings},
        }
    )
    server = FakeServer(answer)
    client = ChatClient(asked.teach.endpoint, transport=server.transport, environ={})
    write_records(folder / "weak.in", WEAK)
    result = teach.teach_pairs(asked, OpenAITeacher("m", asked.teach, client), {"weak": folder / "weak.in"},
                               folder / "out")  # fmt: skip
    return server, result, read_records(folder / "out" / "zero_shot.jsonl", Pair)


def first_then(first: httpx.Response, then: httpx.Response) -> Callable[[Body], httpx.Response]:
    """One answer to a request, another to the same asked again."""
    return lambda body: first if len(body["messages"]) == 2 else then


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_reply_is_asked_for_again_and_the_second_counts(tmp_path: Path, text: str) -> None:
    server, result, pairs = taught(first_then(completion(text), completion(GOOD)), tmp_path, count=2)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("good", "bad")] * 2
    assert (result.facts["reasks"], result.facts["reasks_that_helped"]) == (2, 2)
    assert result.facts["replies"] == {"used": 4, "sent": 4, "from_store": 0}
    assert result.drops == {}
    assert [len(body["messages"]) for body in server.bodies] == [2, 2, 4, 4]
    assert server.bodies[2]["messages"][2]["content"] == text
    assert len({pair.request_key for pair in pairs}) == 2


@pytest.mark.parametrize("text", [f"```json\n{GOOD}\n```", f"<think>Hm.</think>\n{GOOD}", f"Here it is: {GOOD}"])
def test_a_reply_with_something_around_its_object_is_not_paid_for_twice(tmp_path: Path, text: str) -> None:
    server, result, pairs = taught(lambda _: completion(text), tmp_path, count=2)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("good", "bad")] * 2
    assert (result.facts["reasks"], len(server.bodies)) == (0, 2)


@pytest.mark.parametrize(("reason", "text"), MALFORMED.items(), ids=MALFORMED)
def test_a_reply_that_stays_malformed_is_dropped_with_its_reason(tmp_path: Path, reason: str, text: str) -> None:
    said: Iterator[httpx.Response] = iter([completion(GOOD)])
    server, result, pairs = taught(
        lambda _: next(said, completion(text)), tmp_path, count=2, max_candidates={"zero_shot": 3}
    )
    assert len(pairs) == 1
    assert result.drops == {f"zero_shot: {reason}": 2}
    assert result.facts["not_accepted"] == {"zero_shot": {reason: 2}}
    assert (result.facts["reasks"], result.facts["reasks_that_helped"]) == (2, 0)
    assert result.facts["exhausted"] == {"zero_shot": {"max_candidates tried": 1}}
    assert len(server.bodies) == 5


@pytest.mark.parametrize(("reasks", "sent"), [(0, 1), (1, 2), (2, 3), (3, 4)])
def test_a_reply_is_asked_for_again_as_often_as_the_recipe_says(tmp_path: Path, reasks: int, sent: int) -> None:
    lengths: list[int] = []

    def answer(body: Body) -> httpx.Response:
        lengths.append(len(body["messages"]))
        return completion("no")

    with pytest.raises(InputError, match=r"not one zero_shot pair could be made \(1 x parse: not JSON\)"):
        taught(answer, tmp_path, count=1, reasks=reasks, max_candidates={"zero_shot": 1})
    assert lengths == [2 + 2 * times for times in range(sent)]


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (completion("half a reply", "length"), "truncated"),
        (completion("", refusal="I will not."), "refused"),
        (completion("", "content_filter"), "content_filter"),
        (completion(""), "empty"),
        (error(400, "too long"), "bad_request"),
    ],
)
def test_failures_that_are_no_matter_of_parsing_are_not_asked_again_and_keep_their_names(
    tmp_path: Path, response: httpx.Response, reason: str
) -> None:
    said: Iterator[httpx.Response] = iter([response])
    server, result, pairs = taught(lambda _: next(said, completion(GOOD)), tmp_path)
    assert result.drops == {f"zero_shot: {reason}": 1}
    assert (result.facts["reasks"], len(server.bodies), len(pairs)) == (0, 5, 4)


def test_a_second_reply_that_fails_otherwise_is_counted_as_that(tmp_path: Path) -> None:
    said: Iterator[httpx.Response] = iter([completion("no")])
    answer = first_then(completion(GOOD), completion("half", "length"))
    _, result, _ = taught(lambda body: next(said, answer(body)), tmp_path)
    assert result.drops == {"zero_shot: truncated": 1}
    assert (result.facts["reasks"], result.facts["reasks_that_helped"]) == (1, 0)


def test_a_re_run_buys_neither_first_nor_second_replies_again(tmp_path: Path) -> None:
    answer = first_then(completion("no"), completion(GOOD))
    _, _, before = taught(answer, tmp_path)
    server, result, after = taught(answer, tmp_path)
    assert (server.bodies, after) == ([], before)
    assert result.facts["replies"] == {"used": 8, "sent": 0, "from_store": 8}
    assert result.facts["reasks_that_helped"] == 4
    assert result.tokens == {"from_store_in": 8 * 7, "from_store_out": 8 * 11}


def test_one_request_without_a_reply_is_replaced_but_an_outage_ends_it_at_once(tmp_path: Path) -> None:
    said: Iterator[httpx.Response] = iter([error(503, "busy")])
    _, result, pairs = taught(lambda _: next(said, completion(GOOD)), tmp_path / "one")
    assert (len(pairs), result.drops) == (4, {"zero_shot: server_error": 1})
    count = iter(range(1000))
    with pytest.raises(TeacherError, match=r"15 requests for zero_shot pairs got no reply.*busy.*only 5 of 20 pairs"):
        taught(lambda _: completion(GOOD) if next(count) < 5 else error(503, "busy"), tmp_path / "all", count=20)
    assert next(count) == 20


def test_what_screening_would_drop_is_not_accepted_but_written_for_it_to_say_so(tmp_path: Path) -> None:
    refusal = json.dumps({"preferred": "I'm sorry, but I cannot help with that.", "dispreferred": "bad"})
    said: Iterator[httpx.Response] = iter([completion(refusal)])
    _, result, pairs = taught(lambda _: next(said, completion(GOOD)), tmp_path)
    assert (len(pairs), result.facts["accepted"], result.facts["candidates"]) == (5, {"zero_shot": 4}, {"zero_shot": 5})
    assert result.facts["not_accepted"] == {"zero_shot": {"refusal (chosen)": 1}}
    assert result.drops == {}  # screening drops it, and counts it


def test_pairs_on_evaluation_prompts_are_not_accepted(tmp_path: Path) -> None:
    asked = Recipe.model_validate(
        {"name": "r", "arms": {"a": {"random": 3}}, "mix": {"heldout_pairs": 0}, "corpus": {"tasks": {}}}
    )
    pool = tasks.draw_splits({"pool": 8}, seed=1)["pool"]
    write_records(tmp_path / "pool", [WeakPrompt(**row.model_dump()) for row in pool])
    write_records(tmp_path / "test", pool[:5])
    inputs = {"random": tmp_path / "pool", "evaluation_test": tmp_path / "test"}
    result = teach.run(asked, inputs, tmp_path / "out")
    assert result.facts["accepted"] == {"random": 3}
    assert result.facts["not_accepted"]["random"].keys() == {"overlap with evaluation: same problem"}
