"""What a teacher is shown as good and bad, what stops the stage and what does not, and what two teachers cost."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from limbeck import tasks
from limbeck.api import ChatClient
from limbeck.api.fake_server import Body, FakeServer, completion, error
from limbeck.errors import RecipeError, TeacherError
from limbeck.recipe import Recipe
from limbeck.records import Pair, WeakPrompt, user_prompt
from limbeck.stages import teach
from limbeck.store import digest_json, read_records, write_records
from limbeck.stream import stream_order
from limbeck.teachers import OpenAITeacher, WorkedTeacher

POOL = tasks.draw_splits({"pool": 12}, seed=5)["pool"]
ENDPOINT = {"base_url": "http://fake/v1", "max_retries": 0, "concurrency": 1}
HUMAN = [
    Pair(id=f"h{n}", prompt=user_prompt(f"Human prompt {n}"), source="human", chosen=f"human good {n}", rejected="bad")
    for n in range(12)
]


def solution(row: WeakPrompt) -> str:
    assert row.problem is not None
    return row.problem.solution


WEAK = [WeakPrompt(**row.model_dump(), failures=("#### nonsense",)) for row in POOL]
SOLUTIONS = {row.prompt[-1].content: solution(row) for row in WEAK}


def recipe(arm: dict[str, int], **changes: Any) -> Recipe:
    value = {"name": "r", "arms": {"a": arm}, "mix": {"heldout_pairs": 1}, "corpus": {"tasks": {}}}
    return Recipe.model_validate(value | {"teach": {"endpoint": ENDPOINT}} | changes)


def inputs(folder: Path, **tables: list[Any]) -> dict[str, Path]:
    for name, rows in tables.items():
        write_records(folder / f"{name}.in", rows)
    return {name: folder / f"{name}.in" for name in tables}


def teacher(asked: Recipe, server: FakeServer, model: str = "m") -> OpenAITeacher:
    return OpenAITeacher(model, asked.teach, ChatClient(asked.teach.endpoint, transport=server.transport, environ={}))


def user_turn(body: Body) -> str:
    return str(body["messages"][-1]["content"])


def wrong_way_round(body: Body) -> httpx.Response:
    """The right answer as the worse one, where the prompt is a problem that is known here."""
    asked = user_turn(body)
    if "holding one new prompt" in asked:
        return completion(json.dumps({"prompt": f"Something new: {digest_json(asked)[:12]}"}))
    right = next((text for question, text in SOLUTIONS.items() if json.dumps(question)[1:40] in asked), "fine")
    return completion(json.dumps({"preferred": "It is so. #### nonsense", "dispreferred": right}))


def test_examples_are_shown_the_way_round_that_screening_leaves_them(tmp_path: Path) -> None:
    asked = recipe({"random": 4, "few_shot": 2}, screen={"on_verifier_disagreement": "swap"})
    server = FakeServer(wrong_way_round)
    teach.teach_pairs(asked, teacher(asked, server), inputs(tmp_path, weak=WEAK, random=WEAK), tmp_path / "out")
    shown = [line for body in server.bodies for line in user_turn(body).splitlines() if line.startswith("<example>")]
    pairs = [json.loads(line.removeprefix("<example>").removesuffix("</example>")) for line in shown]
    assert pairs
    assert {pair["dispreferred"] for pair in pairs} == {"It is so. #### nonsense"}
    assert {pair["preferred"] for pair in pairs} <= set(SOLUTIONS.values())


def test_human_examples_are_those_that_are_trained_on(tmp_path: Path) -> None:
    useless = HUMAN[3].model_copy(update={"id": "same", "chosen": "x y z", "rejected": "x y z"})
    human = [*HUMAN[:3], useless, *HUMAN[4:]]
    asked = recipe({"few_shot": 8, "human": 1}, teach={"endpoint": ENDPOINT, "example_pairs_shown": 10})
    server = FakeServer(wrong_way_round)
    teach.teach_pairs(asked, teacher(asked, server), inputs(tmp_path, weak=WEAK, human=human), tmp_path / "out")
    text = " ".join(map(user_turn, server.bodies))
    held_out = stream_order([pair for pair in human if pair is not useless], 1)[0]
    assert "x y z" not in text
    assert held_out.chosen not in text
    assert sum(pair.chosen in text for pair in human) == 10


def test_one_request_that_never_gets_a_reply_does_not_hold_up_what_is_there(tmp_path: Path) -> None:
    dead = WEAK[0].prompt[-1].content

    def answer(body: Body) -> httpx.Response:
        if json.dumps(dead)[1:40] in user_turn(body):
            return error(503, "busy")
        return completion('{"preferred": "good", "dispreferred": "bad"}')

    asked = recipe({"zero_shot": 11}, screen={"on_verifier_disagreement": "keep"})
    result = teach.teach_pairs(asked, teacher(asked, FakeServer(answer)), inputs(tmp_path, weak=WEAK), tmp_path / "out")
    assert result.facts["exhausted"] == {"zero_shot": {"no prompt left": 1}}
    assert result.drops == {"zero_shot: server_error": 1}


def test_on_policy_passes_over_a_failing_reply_that_says_what_is_chosen(tmp_path: Path) -> None:
    weak = [row.model_copy(update={"failures": (solution(row), "#### nonsense")}) for row in WEAK]
    result = teach.run(recipe({"on_policy": 11}), inputs(tmp_path, weak=weak), tmp_path / "out")
    pairs = read_records(tmp_path / "out" / "on_policy.jsonl", Pair)
    assert {pair.rejected for pair in pairs} == {"#### nonsense"}
    assert result.drops == {}


def test_money_is_known_where_only_the_weaker_model_costs_any(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('date = "2026-11-01"\n[models]\nweak = { input = 1, output = 2 }\n')
    settings = {"teacher": "worked", "contrast_with": "openai:weak", "endpoint": ENDPOINT, "prices": str(prices)}
    asked = recipe({"contrast": 3}, teach=settings, screen={"on_verifier_disagreement": "keep"})
    server = FakeServer(lambda _: completion("a weak answer"))
    weaker = teacher(asked, server, "weak")
    result = teach.teach_pairs(asked, WorkedTeacher(1), inputs(tmp_path, weak=WEAK), tmp_path / "out", weaker)
    assert result.money_usd == pytest.approx(len(server.bodies) * (7 * 1e-6 + 11 * 2e-6))


def test_insisting_on_a_schema_ends_at_the_first_refusal_and_buys_nothing(tmp_path: Path) -> None:
    asked = recipe({"zero_shot": 5}, teach={"endpoint": ENDPOINT, "structured": "json_schema"})
    server = FakeServer(lambda _: error(400, "response_format is unknown"))
    with pytest.raises(TeacherError, match="'json_schema', and http://fake/v1 does not take that"):
        teach.teach_pairs(asked, teacher(asked, server), inputs(tmp_path, weak=WEAK), tmp_path / "out")
    assert len(server.bodies) == 1


def test_limbeck_teach_names_the_kinds_it_can_write() -> None:
    from limbeck.commands.stages import teach as command

    with pytest.raises(RecipeError, match="a teacher writes random, zero_shot"):
        command(Path("weak.jsonl"), "worked", 3, "human")
