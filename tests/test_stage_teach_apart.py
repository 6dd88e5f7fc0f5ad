"""What is taught, seen from the stages behind it: what the judge alone sees and what validates is shown to no teacher,
and no pair is paid for that mixing would refuse.
"""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from limbeck import tasks
from limbeck.api import ChatClient
from limbeck.api.fake_server import Body, FakeServer, completion
from limbeck.errors import InputError
from limbeck.recipe import Recipe
from limbeck.records import Pair, PromptRow, WeakPrompt
from limbeck.stages import mix, screen, teach
from limbeck.store import digest_json, read_records, write_records
from limbeck.teachers import OpenAITeacher

WEAK = [
    WeakPrompt(**row.model_dump(exclude={"problem"}), failures=(f"nonsense {row.id}",))
    for row in tasks.draw_splits({"pool": 60}, seed=5)["pool"]
]
CORPUS = {
    "prompts": [{"path": "p.jsonl"}],
    "evaluation": [{"path": "e.jsonl"}],
}  # no pairs: the judge learns from these


def answer(body: Body) -> httpx.Response:
    asked = digest_json(body["messages"])
    words = " ".join(asked[place : place + 6] for place in range(0, 48, 6))
    if "holding one new prompt" in str(body["messages"][-1]["content"]):
        return completion(json.dumps({"prompt": f"What is meant by {words}?"}))
    return completion(json.dumps({"preferred": f"It is {words}.", "dispreferred": f"None of {words}."}))


def carried_out(arm: dict[str, int], folder: Path, **settings: Any) -> FakeServer:
    """Teach, screen and mix for one arm; the server knows all that was shown."""
    value = {"name": "r", "corpus": CORPUS, "arms": {"a": arm}, "mix": {"heldout_pairs": 2}}
    endpoint = {"base_url": "http://fake/v1", "max_retries": 0, "concurrency": 1}
    recipe = Recipe.model_validate(value | {"teach": {"endpoint": endpoint} | settings})
    server = FakeServer(answer)
    client = ChatClient(recipe.teach.endpoint, transport=server.transport, environ={})
    write_records(folder / "weak.jsonl", WEAK)
    weak = dict.fromkeys(("weak", "random"), folder / "weak.jsonl")
    teach.teach_pairs(recipe, OpenAITeacher("m", recipe.teach, client), weak, folder / "teach")
    screen.run(recipe, {kind: folder / "teach" / f"{kind}.jsonl" for kind in arm}, folder / "screen")
    mix.run(recipe, {kind: folder / "screen" / f"{kind}.jsonl" for kind in arm}, folder / "mix", "a")
    return server


def read(path: Path) -> list[Pair]:
    return read_records(path, Pair)


@pytest.mark.parametrize(
    "arm", [{"random": 8, "few_shot": 2}, {"zero_shot": 4, "few_shot": 2, "on_policy": 12}], ids=["random", "on_policy"]
)
def test_no_example_is_a_pair_of_the_judge_or_one_that_is_held_out(arm: dict[str, int], tmp_path: Path) -> None:
    server = carried_out(arm, tmp_path, example_pairs_shown=4)
    texts = [str(body["messages"][-1]["content"]) for body in server.bodies]
    shown = " ".join(text for text in texts if "<example>" in text)
    trained, shut = read(tmp_path / "mix" / "train.jsonl"), read(tmp_path / "screen" / "judging.jsonl")
    assert any(pair.chosen in shown for pair in trained)
    assert [pair.id for pair in [*shut, *read(tmp_path / "mix" / "validation.jsonl")] if pair.chosen in shown] == []


def test_a_rolling_pair_is_written_with_pairs_that_are_left_to_the_arms_and_follows_one_of_them(tmp_path: Path) -> None:
    server = carried_out({"random": 8, "rolling": 3}, tmp_path, context_pairs_shown=2)
    rolling = read(tmp_path / "teach" / "rolling.jsonl")
    shut = read(tmp_path / "screen" / "judging.jsonl")
    asked = " ".join(str(body["messages"][-1]["content"]) for body in server.bodies if "It is" in str(body["messages"]))
    assert [pair.id for pair in shut if pair.source == "random" and pair.chosen in asked] == []
    left = {pair.id for pair in read(tmp_path / "screen" / "random.jsonl")}
    assert {pair.placed_after for pair in rolling} <= left


@pytest.mark.parametrize("table", ["weak", "random", "fresh"])
def test_two_rows_of_one_id_are_refused_before_anything_is_asked(table: str, tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"name": "r", "corpus": CORPUS, "arms": {"a": {"zero_shot": 2}}})
    rows = (
        WEAK if table != "fresh" else [PromptRow(**row.model_dump(exclude={"failures", "successes"})) for row in WEAK]
    )
    write_records(tmp_path / "rows.jsonl", [*rows, rows[0]])
    server = FakeServer(answer)
    client = ChatClient(recipe.teach.endpoint, transport=server.transport, environ={})
    with pytest.raises(InputError, match=f"two {table} rows have the id '{rows[0].id}'"):
        teach.teach_pairs(recipe, OpenAITeacher("m", recipe.teach, client), {table: tmp_path / "rows.jsonl"}, tmp_path)
    assert not list(tmp_path.glob("*.sqlite"))
