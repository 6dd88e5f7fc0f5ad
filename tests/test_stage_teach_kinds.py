"""The kinds of pair over a fake server: what each is written on, what is asked, what becomes chosen and rejected."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from limbeck import tasks
from limbeck.api import ChatClient
from limbeck.api.fake_server import Body, FakeServer, completion
from limbeck.errors import InputError, RecipeError
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import MadeKind
from limbeck.records import Pair, Record, WeakPrompt, user_prompt
from limbeck.stages import teach
from limbeck.store import digest_json, read_records, write_records
from limbeck.stream import stream_order
from limbeck.teachers import OpenAITeacher, WorkedTeacher, contrast_teacher_for

DRAWN = tasks.draw_splits({"pool": 12, "fresh": 12}, seed=5)
HUMAN = [
    Pair(id=f"h{n}", prompt=user_prompt(f"Human prompt {n}"), source="human", chosen=f"human good {n}", rejected="bad")
    for n in range(12)
]
WEAK = [
    WeakPrompt(id=f"w{n}", prompt=user_prompt(f"Weak prompt {n}"), source="s", failures=(f"wrong {n}", f"worse {n}"))
    for n in range(8)
]


def recipe(kind: MadeKind, count: int = 3, **changes: Any) -> Recipe:
    value = {"name": "r", "arms": {"a": {kind: count}}, "mix": {"heldout_pairs": 1}, "corpus": {"tasks": {}}}
    return Recipe.model_validate(value | changes)


def written(folder: Path, **tables: list[Any]) -> dict[str, Path]:
    for name, rows in tables.items():
        write_records(folder / f"{name}.in", rows)
    return {name: folder / f"{name}.in" for name in tables}


def teacher(asked: Recipe, server: FakeServer, model: str = "strong") -> OpenAITeacher:
    client = ChatClient(asked.teach.endpoint, transport=server.transport, environ={})
    return OpenAITeacher(model, asked.teach, client)


ENDPOINT = {"endpoint": {"base_url": "http://fake/v1", "max_retries": 0, "concurrency": 1}}


def taught(
    kind: MadeKind, answer: Callable[[Body], httpx.Response], folder: Path, count: int = 3, **settings: Any
) -> tuple[FakeServer, StageResult, list[Pair]]:
    asked = recipe(kind, count, teach=ENDPOINT | {"contrast_with": "openai:weak"} | settings)
    server = FakeServer(answer)
    inputs = written(folder, weak=WEAK, human=HUMAN)
    weaker = teacher(asked, server, "weak")
    result = teach.teach_pairs(asked, teacher(asked, server), inputs, folder / "out", weaker)
    return server, result, read_records(folder / "out" / f"{kind}.jsonl", Pair)


def user_turn(body: Body) -> str:
    return str(body["messages"][-1]["content"])


# Rolling


def rolling_answer(body: Body) -> httpx.Response:
    asked = user_turn(body)
    if "holding one new prompt" in asked:
        return completion(json.dumps({"prompt": f"After {asked.count('<context_prompt>')}: {digest_json(asked)[:8]}"}))
    return completion(json.dumps({"preferred": "the better one", "dispreferred": "the worse"}))


def test_a_rolling_pair_is_written_with_the_five_human_pairs_before_its_place(tmp_path: Path) -> None:
    server, result, pairs = taught("rolling", rolling_answer, tmp_path)
    stream = stream_order(HUMAN, 1)[1:]  # the first is held out by mixing
    assert [pair.placed_after for pair in pairs] == [stream[place + 4].id for place in range(4)]
    asked = [user_turn(body) for body in server.bodies]
    for place in range(4):
        shown = [pair.prompt[0].content for pair in stream[place : place + 5]]
        assert [text in asked[place] for text in shown] == [True] * 5
        assert "human good" not in asked[place]  # a prompt is asked for without answers
        assert [pair.chosen in asked[place + 4] for pair in stream[place : place + 5]] == [True] * 5
        assert stream[place + 5].prompt[0].content not in asked[place] + asked[place + 4]
    assert all(pair.template and pair.template.startswith("rolling@") and pair.mined_from is None for pair in pairs)
    assert result.facts["accepted"] == {"rolling": 4}


def test_the_stream_of_rolling_pairs_ends_where_the_human_pairs_end(tmp_path: Path) -> None:
    _, result, pairs = taught("rolling", rolling_answer, tmp_path, count=9)
    assert len(pairs) == 12 - 1 - 4
    assert result.facts["exhausted"] == {"rolling": {"no prompt left": 3}}


def test_a_human_pair_that_screening_drops_is_no_context(tmp_path: Path) -> None:
    asked = recipe("rolling", 2, teach=ENDPOINT)
    server = FakeServer(rolling_answer)
    human = [HUMAN[0].model_copy(update={"id": "same", "rejected": HUMAN[0].chosen}), *HUMAN[1:]]
    teach.teach_pairs(asked, teacher(asked, server), written(tmp_path, human=human), tmp_path / "out")
    assert server.bodies
    assert not any(f'"{HUMAN[0].prompt[0].content}"' in user_turn(body) for body in server.bodies)


def test_too_few_human_pairs_for_one_rolling_pair_are_named(tmp_path: Path) -> None:
    asked = recipe("rolling", 2, teach=ENDPOINT)
    with pytest.raises(InputError, match=r"with the 5 pairs before them .* only 4 human pairs to train on"):
        teach.teach_pairs(asked, teacher(asked, FakeServer(rolling_answer)), written(tmp_path, human=HUMAN[:5]),
                          tmp_path / "out")  # fmt: skip


def test_without_human_pairs_random_ones_stand_in_and_the_worked_teacher_takes_fresh_problems(tmp_path: Path) -> None:
    asked = recipe("rolling", arms={"a": {"random": 8, "rolling": 3}})
    pool: list[Record] = [WeakPrompt(**row.model_dump()) for row in DRAWN["pool"]]
    inputs = written(tmp_path, random=pool, fresh=list(DRAWN["fresh"]))
    result = teach.run(asked, inputs, tmp_path / "out")
    random = read_records(tmp_path / "out" / "random.jsonl", Pair)
    rolling = read_records(tmp_path / "out" / "rolling.jsonl", Pair)
    stream = stream_order(random, 1)[1:]
    assert result.facts["accepted"]["rolling"] == 4
    assert [pair.placed_after for pair in rolling[:2]] == [stream[4].id, stream[5].id]
    fresh = {row.id for row in DRAWN["fresh"]}
    assert {pair.id.removeprefix("rolling/") for pair in rolling} <= fresh


# Revise


def revised(body: Body) -> httpx.Response:
    return completion(json.dumps({"revised": "right" + user_turn(body).split("<reply>")[1][1:8]}))


def test_a_revision_is_chosen_over_the_very_reply_it_corrects(tmp_path: Path) -> None:
    server, result, pairs = taught("revise", revised, tmp_path)
    weak = {row.id: row for row in WEAK}
    for body, pair in zip(server.bodies, pairs, strict=True):
        row = weak[str(pair.mined_from)]
        assert pair.rejected in row.failures
        assert f"<reply>{json.dumps(pair.rejected)}</reply>" in user_turn(body)
        assert f"<prompt>{json.dumps(row.prompt[0].content)}</prompt>" in user_turn(body)
        assert pair.chosen == f"right{pair.rejected}"[: len(pair.chosen)]
        assert pair.template and pair.template.startswith("revise@")
    assert result.facts["accepted"] == {"revise": 4}
    assert {pair.rejected.split()[0] for pair in taught("revise", revised, tmp_path / "all", count=7)[2]} == {
        "wrong", "worse"
    }  # fmt: skip


def test_a_revision_that_changes_nothing_is_asked_for_again(tmp_path: Path) -> None:
    def stubborn(body: Body) -> httpx.Response:
        reply = json.loads(body["messages"][1]["content"].split("<reply>")[1].split("</reply>")[0])
        return completion(json.dumps({"revised": reply if len(body["messages"]) == 2 else "another"}))

    server, result, pairs = taught("revise", stubborn, tmp_path)
    assert [pair.chosen for pair in pairs] == ["another"] * 4
    assert (result.facts["reasks"], result.facts["reasks_that_helped"]) == (4, 4)
    assert "the answers did not differ" in user_turn(server.bodies[-1])


# On policy


def test_on_policy_takes_the_students_own_right_reply_where_it_has_one(tmp_path: Path) -> None:
    rows = [
        WeakPrompt(id="own", prompt=user_prompt("q"), source="s", reference_response="reference",
                   failures=("a", "b", "c"), successes=("right", "right too")),
        WeakPrompt(id="none", prompt=user_prompt("r"), source="s", reference_response="reference", failures=("a",)),
    ]  # fmt: skip
    chosen: set[str] = set()
    rejected: set[str] = set()
    for seed in range(12):
        out = tmp_path / str(seed)
        teach.run(recipe("on_policy", seed=seed), written(tmp_path, weak=rows), out)
        pairs = {str(pair.mined_from): pair for pair in read_records(out / "on_policy.jsonl", Pair)}
        assert (pairs["none"].chosen, pairs["none"].teacher) == ("reference", "reference")
        assert pairs["own"].teacher == "student"
        chosen.add(pairs["own"].chosen)
        rejected.add(pairs["own"].rejected)
    assert (chosen, rejected) == ({"right", "right too"}, {"a", "b", "c"})


# Contrast


def contrasted(body: Body) -> httpx.Response:
    if user_turn(body) == "Weak prompt 3":
        return completion("the same")
    if user_turn(body) == "Weak prompt 4" and body["model"] == "strong":
        return completion("half an ans", "length")
    return completion(f" {body['model']} says {len(user_turn(body))}\n")


def test_a_contrast_pair_sets_two_models_plain_answers_against_each_other(tmp_path: Path) -> None:
    server, result, pairs = taught("contrast", contrasted, tmp_path, count=7)
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {("strong says 13", "weak says 13")}
    assert {pair.teacher for pair in pairs} == {"openai:strong, openai:weak"}
    assert {len(str(pair.request_key)) for pair in pairs} == {130}  # two digests of 64 digits, and a comma
    assert {str(pair.mined_from) for pair in pairs} == {row.id for row in WEAK} - {"w3", "w4"}
    assert result.drops == {"contrast: equal answers": 1, "contrast: truncated": 1}
    assert sum(body["model"] == "weak" for body in server.bodies) == 7  # not where there is nothing to contrast with
    assert all([message["role"] for message in body["messages"]] == ["user"] for body in server.bodies)
    assert not any("response_format" in body for body in server.bodies)
    assert result.tokens == {
        "teacher_in": 8 * 7, "teacher_out": 8 * 11, "contrast_with_in": 7 * 7, "contrast_with_out": 7 * 11
    }  # fmt: skip
    assert result.facts["contrast_with"] == {"teacher": "openai:weak"}


LITTLE = {"extra": {"reasoning_effort": "low"}}


def test_the_weaker_model_may_be_the_teachers_own_with_other_fields(tmp_path: Path) -> None:
    settings = ENDPOINT | {"teacher": "openai:a", "contrast_with": "openai:a"}
    settings["contrast_endpoint"] = settings["endpoint"] | LITTLE
    asked = recipe("contrast", 2, teach=settings)
    assert repr(contrast_teacher_for(asked)).startswith("OpenAITeacher(model='a'")
    server = FakeServer(lambda body: completion("4" if "reasoning_effort" not in body else "five"))
    strong, weak = (
        OpenAITeacher("a", asked.teach.model_copy(update={"endpoint": at}),
                      ChatClient(at, transport=server.transport, environ={}))
        for at in (asked.teach.endpoint, asked.teach.contrast_endpoint) if at
    )  # fmt: skip
    teach.teach_pairs(asked, strong, written(tmp_path, weak=WEAK[:2]), tmp_path / "out", weak)
    pairs = read_records(tmp_path / "out" / "contrast.jsonl", Pair)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("4", "five")] * 2


def test_worked_solutions_may_be_the_strong_side(tmp_path: Path) -> None:
    rows = [WeakPrompt(**row.model_dump()) for row in DRAWN["pool"][:5]]
    asked = recipe("contrast", 2, teach=ENDPOINT | {"contrast_with": "openai:weak"})
    weaker = teacher(asked, FakeServer(lambda _: completion("no idea\n#### x")), "weak")
    teach.teach_pairs(asked, WorkedTeacher(1), written(tmp_path, weak=rows), tmp_path / "out", weaker)
    for pair in read_records(tmp_path / "out" / "contrast.jsonl", Pair):
        assert pair.problem and pair.chosen == pair.problem.solution


@pytest.mark.parametrize(
    ("kind", "settings", "problem"),
    [
        ("contrast", {}, "asks for contrast pairs, and teach.contrast_with names no weaker model"),
        ("contrast", {"contrast_with": "worked"}, "teach.contrast_with: 'worked' gives worked solutions, which are "),
        ("contrast", {"contrast_with": "gpt"}, "teach.contrast_with: 'gpt' is not known; it is `worked`, `openai:M"),
        ("contrast", {"teacher": "openai:a", "contrast_with": "openai:a"}, "'openai:a' is the teacher itself"),
        ("contrast", {"teacher": "openai:a", "contrast_with": "openai:a", "endpoint": LITTLE,
                      "contrast_endpoint": LITTLE}, "'openai:a' is the teacher itself"),
        ("contrast", {"teacher": "local:a", "contrast_with": "local:a",
                      "contrast_endpoint": {"base_url": "http://b/v1"}}, "'local:a' is the teacher itself"),
        ("revise", {}, "asks for revise pairs, and the teacher 'worked' cannot correct another's words"),
    ],
)  # fmt: skip
def test_a_teacher_that_cannot_write_a_kind_is_a_recipe_error(
    tmp_path: Path, kind: MadeKind, settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RecipeError, match=problem):
        teach.run(recipe(kind, teach=settings), written(tmp_path, weak=WEAK), tmp_path / "out")


# All of them


@pytest.mark.parametrize(
    ("kind", "answer"), [("rolling", rolling_answer), ("revise", revised), ("contrast", contrasted)]
)
def test_a_re_run_buys_nothing_and_writes_the_same_bytes_and_asking_for_more_only_adds(
    tmp_path: Path, kind: MadeKind, answer: Callable[[Body], httpx.Response]
) -> None:
    def bytes_of(folder: Path) -> bytes:
        return (folder / "out" / f"{kind}.jsonl").read_bytes()

    taught(kind, answer, tmp_path)
    first = bytes_of(tmp_path)
    server, result, _ = taught(kind, answer, tmp_path)
    assert (server.bodies, bytes_of(tmp_path)) == ([], first)
    assert result.facts["replies"]["sent"] == 0
    taught(kind, answer, tmp_path, count=5)
    assert bytes_of(tmp_path).startswith(first)
