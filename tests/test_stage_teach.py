"""The teach stage: real problems and the worked teacher; the API teacher over a fake server."""

import json
from collections.abc import Callable
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
from limbeck.records import Pair, PromptRow, WeakPrompt, user_prompt
from limbeck.stages import teach
from limbeck.store import read_records, write_records
from limbeck.teachers import OpenAITeacher

DRAWN = tasks.draw_splits({"pool": 24, "fresh": 24}, seed=5)
KINDS = ("random", "zero_shot", "few_shot", "on_policy")
GOOD = '{"preferred": "good", "dispreferred": "bad"}'


def recipe(**changes: Any) -> Recipe:
    arm = dict.fromkeys(KINDS, 4)
    value = {"name": "r", "corpus": {"tasks": {}}, "arms": {"all": arm}, "mix": {"heldout_pairs": 1}, **changes}
    return Recipe.model_validate(value)


def weak(row: PromptRow, failure: str = "#### nonsense") -> WeakPrompt:
    return WeakPrompt(**row.model_dump(), failures=(failure, "another"))


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    tables = {
        "weak": [weak(row) for row in DRAWN["pool"][:16]],
        "random": [weak(row) for row in DRAWN["pool"][16:]],
        "fresh": DRAWN["fresh"],
        "human": [],
    }
    for name, rows in tables.items():
        write_records(tmp_path / f"{name}.in", rows)
    return {name: tmp_path / f"{name}.in" for name in tables}


def pairs(out: Path) -> dict[str, list[Pair]]:
    return {path.stem: read_records(path, Pair) for path in sorted(out.glob("*.jsonl"))}


def with_server(
    answer: Callable[[Body], httpx.Response], inputs: dict[str, Path], out: Path, **arm: int
) -> tuple[FakeServer, StageResult]:
    asked = recipe(
        arms={"a": arm},
        teach={"endpoint": {"base_url": "http://fake/v1", "max_retries": 0}, "reasks": 0},
        screen={"on_verifier_disagreement": "keep"},  # the fake server solves nothing
    )
    server = FakeServer(answer)
    client = ChatClient(asked.teach.endpoint, transport=server.transport, environ={})
    return server, teach.teach_pairs(asked, OpenAITeacher("m", asked.teach, client), inputs, out)


def test_every_kind_is_written_as_often_as_is_needed_and_with_its_provenance(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    result = teach.run(recipe(), inputs, tmp_path / "out")
    made = pairs(tmp_path / "out")
    assert set(made) == set(KINDS)
    # 4 needed, 1 held out, and one for each other kind on the same prompts (random, zero_shot, on_policy)
    assert result.facts["accept"] == {"random": 7, "zero_shot": 7, "few_shot": 5, "on_policy": 7}
    assert result.facts["accepted"] == result.facts["accept"]
    assert result.facts["exhausted"] == {}
    for kind, rows in made.items():
        assert len(rows) == result.counts_out[kind] >= result.facts["accept"][kind]
        assert {row.source for row in rows} == {kind}
        assert all(row.id.startswith(f"{kind}/") and (row.mined_from is None) == (kind == "random") for row in rows)
        assert {row.teacher for row in rows} == {"reference" if kind == "on_policy" else "worked"}
    assert all(row.request_key and row.template and row.template.startswith("few_shot@") for row in made["few_shot"])
    assert all(row.template and row.template.startswith("zero_shot@") for row in made["random"])


def test_every_pair_of_the_worked_teacher_stands_up_to_the_scorer(inputs: dict[str, Path], tmp_path: Path) -> None:
    teach.run(recipe(), inputs, tmp_path / "out")
    for rows in pairs(tmp_path / "out").values():
        for row in rows:
            assert row.problem is not None
            assert tasks.score(row.problem, row.chosen).solved
            assert not tasks.score(row.problem, row.rejected).solved


def test_few_shot_pairs_stand_on_fresh_problems_of_the_topics_that_were_weak(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    teach.run(recipe(), inputs, tmp_path / "out")
    fresh = {row.id: row for row in DRAWN["fresh"]}
    topics = {row.topic for row in DRAWN["pool"][:16]}
    for pair in pairs(tmp_path / "out")["few_shot"]:
        source = fresh[pair.id.removeprefix("few_shot/")]
        assert (pair.prompt, pair.problem) == (source.prompt, source.problem)
        assert source.topic in topics


def test_the_same_seed_writes_the_same_bytes_and_a_re_run_sends_nothing(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    first = teach.run(recipe(), inputs, tmp_path / "a")
    teach.run(recipe(), inputs, tmp_path / "b")
    again = teach.run(recipe(), inputs, tmp_path / "a")
    for kind in KINDS:
        assert (tmp_path / "a" / f"{kind}.jsonl").read_bytes() == (tmp_path / "b" / f"{kind}.jsonl").read_bytes()
    assert first.facts["replies"]["from_store"] == 0
    assert again.facts["replies"]["sent"] == 0
    teach.run(recipe(seed=2), inputs, tmp_path / "c")
    assert pairs(tmp_path / "c") != pairs(tmp_path / "a")


def test_too_few_prompts_are_reported_by_reason_and_no_error(inputs: dict[str, Path], tmp_path: Path) -> None:
    result = teach.run(recipe(arms={"a": {"zero_shot": 40, "few_shot": 40}}), inputs, tmp_path / "out")
    accepted = result.facts["accepted"]
    assert result.facts["exhausted"] == {kind: {"no prompt left": 41 - accepted[kind]} for kind in accepted}
    assert result.facts["candidates"]["zero_shot"] == 16
    assert 20 <= result.facts["candidates"]["few_shot"] <= 24  # fresh problems of the topics that were weak


def test_on_policy_sets_the_reference_against_a_failure_and_counts_what_has_neither(tmp_path: Path) -> None:
    rows = [
        WeakPrompt(id="ok", prompt=user_prompt("q"), source="s", reference_response="yes", failures=("Yes",)),
        WeakPrompt(id="same", prompt=user_prompt("r"), source="s", reference_response="yes", failures=("yes ",)),
        WeakPrompt(id="none", prompt=user_prompt("t"), source="s", failures=("no",)),
        WeakPrompt(id="mute", prompt=user_prompt("u"), source="s", reference_response="yes"),
    ]
    write_records(tmp_path / "weak.in", rows)
    result = teach.run(recipe(arms={"a": {"on_policy": 9}}), {"weak": tmp_path / "weak.in"}, tmp_path / "out")
    (pair,) = pairs(tmp_path / "out")["on_policy"]
    assert (pair.id, pair.chosen, pair.rejected, pair.mined_from) == ("on_policy/ok", "yes", "Yes", "ok")
    assert result.drops == {
        "on_policy: equal answers": 1,
        "on_policy: no failing reply": 1,
        "on_policy: no reference response": 1,
    }


def test_what_a_model_gets_wrong_is_counted_by_reason_with_its_tokens(inputs: dict[str, Path], tmp_path: Path) -> None:
    said = iter([completion("I'm sorry"), completion(f"```json\n{GOOD}{GOOD}\n```"), completion(GOOD, "length"),
                 completion('{"preferred": "a", "dispreferred": "b", "c": "d"}'), error(400, "too long")])  # fmt: skip
    _, result = with_server(lambda _: next(said, completion(GOOD)), inputs, tmp_path / "out", zero_shot=9)
    assert result.drops == {
        "zero_shot: bad_request": 1,
        "zero_shot: parse: extra key": 1,
        "zero_shot: parse: markdown": 1,
        "zero_shot: parse: not JSON": 1,
        "zero_shot: truncated": 1,
    }
    assert result.counts_out == {"zero_shot": 10}
    assert result.facts["candidates"] == {"zero_shot": 15}
    assert result.tokens == {"teacher_in": 14 * 7, "teacher_out": 14 * 11}
    assert result.facts["failure_examples"] == {"zero_shot: bad_request": "too long"}


def test_a_model_s_new_prompts_are_its_own_and_one_said_before_is_refused(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    known = DRAWN["fresh"][0]
    assert known.problem is not None
    said = iter(["Count the cats.", " count the  CATS.", DRAWN["pool"][0].prompt[-1].content, known.problem.question])

    def answer(body: Body) -> httpx.Response:
        if "one new prompt" in body["messages"][1]["content"]:
            return completion(json.dumps({"prompt": next(said, "Count the dogs.")}))
        return completion(GOOD)

    server, result = with_server(answer, inputs, tmp_path / "out", few_shot=4)
    made = {pair.prompt[0].content: pair for pair in pairs(tmp_path / "out")["few_shot"]}
    assert set(made) == {"Count the cats.", "Count the dogs.", known.prompt[0].content}
    assert made["Count the cats."].problem is None
    assert made[known.prompt[0].content].problem == known.problem
    assert result.drops == {"few_shot: new prompt: said before": 7}  # of 10 candidates, twice the 5 to be accepted
    assert result.facts["exhausted"] == {"few_shot": {"max_candidates tried": 2}}
    assert any("Count the cats." in body["messages"][1]["content"] for body in server.bodies)


def test_few_shot_requests_show_human_pairs_where_there_are_some_else_the_teachers_own(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    def answer(body: Body) -> httpx.Response:
        new = "one new prompt" in body["messages"][1]["content"]
        return completion(json.dumps({"prompt": f"Count {len(body['messages'][1]['content'])}."}) if new else GOOD)

    server, _ = with_server(answer, inputs, tmp_path / "own", few_shot=2, random=3)
    # Four were accepted, and the one that mixing holds out is shown to nobody.
    assert server.bodies[-1]["messages"][1]["content"].count('"preferred": "good"') == 3
    human = [Pair(id=f"h{n}", prompt=user_prompt(f"p{n}"), source="human", chosen=f"from a human {n}", rejected="x")
             for n in range(9)]  # fmt: skip
    write_records(inputs["human"], human)
    server, _ = with_server(answer, inputs, tmp_path / "human", few_shot=2, random=2)
    assert server.bodies[-1]["messages"][1]["content"].count("from a human") == 4


def test_where_nobody_answered_the_stage_stops_and_a_second_run_buys_only_the_rest(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    count = iter(range(100))
    with pytest.raises(TeacherError, match=r"8 requests for zero_shot pairs.*503: busy.*run the same command again"):
        with_server(lambda _: completion(GOOD) if next(count) < 5 else error(503, "busy"), inputs, tmp_path / "out",
                    zero_shot=12)  # fmt: skip
    server, result = with_server(lambda _: completion(GOOD), inputs, tmp_path / "out", zero_shot=12)
    assert len(server.bodies) == 8
    assert result.facts["replies"] == {"used": 13, "sent": 8, "from_store": 5}
    assert result.tokens == {
        "teacher_in": 8 * 7, "teacher_out": 8 * 11, "from_store_in": 5 * 7, "from_store_out": 5 * 11
    }  # fmt: skip


def test_a_reply_that_serves_two_kinds_was_sent_once_and_its_tokens_count_once(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    write_records(inputs["random"], read_records(inputs["weak"], WeakPrompt))
    server, result = with_server(lambda _: completion(GOOD), inputs, tmp_path / "out", random=2, zero_shot=2)
    assert result.counts_out == {"random": 4, "zero_shot": 4}  # 2 needed, 1 held out, 1 that the other holds out
    assert len(server.bodies) == 4
    assert result.tokens == {"teacher_in": 4 * 7, "teacher_out": 4 * 11}


def test_a_server_that_refuses_every_request_is_an_error_with_its_own_words(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(TeacherError, match="no such parameter"):
        with_server(lambda _: error(400, "no such parameter"), inputs, tmp_path / "out", zero_shot=2)


def test_a_recipe_without_generated_kinds_asks_nothing(inputs: dict[str, Path], tmp_path: Path) -> None:
    result = teach.run(recipe(arms={}), inputs, tmp_path / "out")
    assert (pairs(tmp_path / "out"), result.counts_out) == ({}, {})


def test_a_kind_of_which_no_pair_can_be_made_is_an_error_with_its_reasons(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"not one zero_shot pair could be made .*parse: not JSON"):
        with_server(lambda _: completion("no JSON"), inputs, tmp_path / "out", zero_shot=3)


def test_a_kind_of_which_no_pair_can_be_made_is_an_error_even_where_fewer_will_do(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    fewer = recipe(arms={"a": {"zero_shot": 1, "own": 3}}, mix={"take_fewer": True})
    with pytest.raises(InputError, match="not one own pair could be made"):
        teach.run(fewer, inputs, tmp_path / "out")


def test_a_kind_that_has_no_prompt_to_be_written_on_says_so(tmp_path: Path) -> None:
    for kind in ("zero_shot", "on_policy", "few_shot"):
        with pytest.raises(InputError, match=f"not one {kind} pair could be made .there is nothing to ask about"):
            teach.run(recipe(arms={"a": {kind: 1}}), {}, tmp_path / kind)
