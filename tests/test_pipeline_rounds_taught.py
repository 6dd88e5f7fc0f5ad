"""Rounds on own prompts, with a teacher that is paid by the token and a judge that the first round trains."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from street import Outcome, limbeck, settings, student, write_lines

from limbeck.api.fake_server import Body, FakeServer, completion
from limbeck.api.reply_store import ReplyStore
from limbeck.likeness import opening
from limbeck.manifest import MANIFEST, read_manifest
from limbeck.records import Pair, PromptRow, Reply
from limbeck.records.rounds import RoundsRecord
from limbeck.seeds import derive
from limbeck.store import digest_path, read_records

PROMPTS = 40
A_REPLY_USD = 7 * 1e-6 + 11 * 2e-6  # by the fake server's usage, and the list of prices below
RECIPE = """
name = "own"
[model]
student = {student}
device = "cpu"
dtype = "fp32"
[[corpus.demonstrations]]
path = {demonstrations}
[[corpus.prompts]]
path = {prompts}
[[corpus.evaluation]]
path = {evaluation}
[sft]
max_steps = 1
batch_size = 4
[reward]
max_steps = 1
batch_size = 4
[mine]
max_prompts = 16
max_new_tokens = 8
[teach]
teacher = "openai:some-model"
endpoint.base_url = {url}
endpoint.max_retries = 0
budget.tokens = {tokens}
prices = {prices}
[mix]
heldout_pairs = 1
[arms.zero_shot]
zero_shot = 4
[dpo]
max_steps = 1
batch_size = 2
[evaluate]
max_new_tokens = 8
[rounds]
count = 2
stop_when_unclear = false
"""


def answer(body: Body) -> httpx.Response:
    number = derive(1, json.dumps(body["messages"])) % 10**6
    pair = {"preferred": f"Here is what matters, {number} first.", "dispreferred": "Perhaps, perhaps not."}
    return completion(json.dumps(pair))


@pytest.fixture
def server() -> Iterator[FakeServer]:
    yield FakeServer(answer, models=("some-model",))


def written(folder: Path, url: str) -> Path:
    """The recipe of the run."""
    rows = {
        "demonstrations": [{"prompt": f"What is {n}?", "response": f"A number, {n}."} for n in range(12)],
        "prompts": [{"prompt": f"Tell of item {n}."} for n in range(PROMPTS)],
        "evaluation": [{"prompt": f"Write of place {n}."} for n in range(5)],
    }
    places = {name: write_lines(folder / f"{name}.jsonl", lines) for name, lines in rows.items()}
    prices = folder / "prices.toml"
    prices.write_text('date = "2026-11-01"\n[models]\nsome-model = { input = 1, output = 2 }\n')
    named = {"student": student(folder / "base"), "prices": prices, **places}
    text = {name: json.dumps(str(place)) for name, place in named.items()}
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(url=json.dumps(url), tokens=10**7, **text))
    return path


def test_all_rounds_share_one_budget_and_one_judge_and_ask_other_prompts(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "run"
    with server.listen() as url:
        recipe = written(tmp_path, url)

        def run(*overrides: str) -> Outcome:
            return limbeck("run", recipe, "--out", folder, *settings(*overrides)).done()

        run("rounds.count=1")
        first = len(server.bodies)
        with ReplyStore(folder / "teach" / "replies.sqlite") as store:
            spent = store.spent().tokens
        # What is left does not do for one request more: the first round is all there is, and that is no fault.
        ended = run(f"teach.budget.tokens={spent + 1}")
        assert "no further round: the budget is used up" in ended.err
        assert len(server.bodies) == first
        found = RoundsRecord.model_validate_json((folder / "rounds" / "rounds.json").read_text())
        assert (found.stopped, found.why) == ("budget", "the teacher's budget ended in round 2")
        assert run(f"teach.budget.tokens={spent + 1}").ran == []
        # With more it goes on where it ended, in the same books.
        more = run()
        assert more.ran[0] == "rounds/2/teach"
    assert not list((folder / "rounds").rglob("*.sqlite"))
    assert len(server.bodies) > first
    found = RoundsRecord.model_validate_json((folder / "rounds" / "rounds.json").read_text())
    bought = (first, len(server.bodies) - first)
    assert [one.usd for one in found.rounds] == pytest.approx([number * A_REPLY_USD for number in bought])
    _see_judge_and_prompts(folder)


def _see_judge_and_prompts(folder: Path) -> None:
    second = folder / "rounds" / "2"
    judged, mined = read_manifest(second / "evaluate" / "zero_shot"), read_manifest(second / "mine")
    assert judged is not None
    assert mined is not None
    assert judged.inputs["reward_model"] == digest_path(folder / "reward" / "model")
    assert not (second / "reward" / MANIFEST).exists()
    assert not (second / "screen" / "judging.jsonl").exists()
    asked = [{reply.prompt_id for reply in read_records(run / "mine" / "replies.jsonl", Reply)}
             for run in (folder, second)]  # fmt: skip
    assert not asked[0] & asked[1]
    assert len(asked[0]) == len(asked[1]) == 16
    learnt_from = {opening(pair) for pair in read_records(folder / "screen" / "judging.jsonl", Pair)}
    pool = {row.id: row for row in read_records(folder / "corpus" / "pool_round_2.jsonl", PromptRow)}
    assert learnt_from
    assert not learnt_from & {opening(pool[id_]) for id_ in asked[1]}
