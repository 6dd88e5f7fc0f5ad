"""A whole run on a user's own data, with a teacher and a reward judge behind an address: a server on this machine."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from street import limbeck, outputs, settings, student, write_lines

from limbeck.records import Pair, WeakPrompt
from limbeck.records.verdict import Verdict
from limbeck.store import read_records

RECIPE = """
name = "own"
[model]
student = {student}
device = "cpu"
dtype = "fp32"
[[corpus.demonstrations]]
path = {demonstrations}
[[corpus.preferences]]
path = {preferences}
[[corpus.evaluation]]
path = {evaluation}
[sft]
max_steps = 2
batch_size = 4
[mine]
rule = "gap"
judge = "nemotron"
max_new_tokens = 16
[teach]
teacher = "openai:some-model"
endpoint.base_url = {url}
endpoint.max_retries = 0
example_pairs_shown = 1
weak_prompts_shown = 1
[mix]
heldout_pairs = 1
[arms.human]
human = 4
[arms."human+zero_shot"]
human = 2
zero_shot = 2
[arms.few_shot]
few_shot = 1
[arms.on_policy]
on_policy = 2
[dpo]
max_steps = 2
batch_size = 2
[evaluate]
judges = ["nemotron"]
same_judge = true
max_new_tokens = 16

[judges.nemotron.endpoint]
base_url = {url}
max_retries = 0
"""


class Server:
    """Speaks the two dialects: rewards by a hash of the reply, pairs and new prompts as JSON. Counts what it is asked.

    A reward model that is shown a conversation ending in `unsayable` gives no reward.
    """

    def __init__(self) -> None:
        self.asked: dict[str, int] = {"reward": 0, "teacher": 0}
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                judge = "reward" in body["model"]
                asked["reward" if judge else "teacher"] += 1
                text = reward(body) if judge else teach(body)
                message = {"role": "assistant", "content": text}
                answer = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def reward(body: dict[str, Any]) -> str:
    response = body["messages"][-1]["content"]
    if "reference" in response:  # the data set's own responses are the best there are
        return "reward:9.5"
    return (
        "I would rather not" if len(response) % 7 == 0 else f"reward:-{hashlib.sha256(response.encode()).digest()[0]}"
    )


def teach(body: dict[str, Any]) -> str:
    asked = body["messages"][-1]["content"]
    number = int(hashlib.sha256(asked.encode()).hexdigest()[:6], 16)
    if "key prompt" in asked:
        return json.dumps({"prompt": f"Which colour has thing {number}?"})
    return json.dumps({"preferred": f"It is blue, as {number} shows.", "dispreferred": "Colours are many."})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no key."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for variable in ("OPENAI_API_KEY", "NVIDIA_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def recipe(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("servers")
    demonstrations = [{"prompt": f"What is {n}?", "response": f"A number, {n}."} for n in range(8)]
    preferences = [
        {"prompt": f"Tell me of item {n}.", "chosen": f"A reference for {n}.", "rejected": f"{n}!"} for n in range(12)
    ]
    evaluation = [{"prompt": f"Do you know place {n}?"} for n in range(6)]
    places = {
        "student": student(folder / "base"),
        "demonstrations": write_lines(folder / "demonstrations.jsonl", demonstrations),
        "preferences": write_lines(folder / "preferences.jsonl", preferences),
        "evaluation": write_lines(folder / "evaluation.jsonl", evaluation),
        "url": server.url,
    }
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(**{name: json.dumps(str(place)) for name, place in places.items()}))
    return path


@pytest.fixture(scope="module")
def run(recipe: Path) -> Path:
    folder = recipe.parent / "run"
    done = limbeck("run", recipe, "--out", folder).done()
    assert "Win rate against sft, judged by nemotron" in done.out
    return folder


def test_own_data_and_learned_judges_lead_to_a_verdict(run: Path) -> None:
    verdict = Verdict.model_validate_json((run / "verdict" / "verdict.json").read_text())
    assert [score.model for score in verdict.scores] == [
        "base", "sft", "human", "human+zero_shot", "few_shot", "on_policy",
    ]  # fmt: skip
    assert all(score.accuracy is None and score.mean_reward for score in verdict.scores)
    assert verdict.sentence.startswith("The best of 4 DPO arms, ")
    assert " reward [" in verdict.sentence


def test_mining_by_the_gap_keeps_what_the_data_sets_own_response_beats(run: Path) -> None:
    weak = read_records(run / "mine" / "weak.jsonl", WeakPrompt)
    facts = json.loads((run / "mine" / "manifest.json").read_text())["result"]
    assert 0 < len(weak) == 12 - facts["drops"]["unscored"]
    pairs = read_records(run / "teach" / "on_policy.jsonl", Pair)
    assert pairs
    assert all(pair.chosen.startswith("A reference for") for pair in pairs)


def test_new_prompts_of_the_teacher_become_pairs(run: Path) -> None:
    pairs = read_records(run / "teach" / "few_shot.jsonl", Pair)
    assert pairs
    assert all(pair.prompt[-1].content.startswith("Which colour has thing") for pair in pairs)


def test_what_was_paid_for_is_never_asked_again(run: Path, recipe: Path, server: Server) -> None:
    before, left = dict(server.asked), outputs(run)
    assert limbeck("run", recipe, "--out", run).done().ran == []
    # Another setting of mining and of screening: stages run anew, but every reply is in their stores.
    changed = settings("mine.max_prompts=500", "screen.max_length_ratio=19")
    again = limbeck("run", recipe, "--out", run, *changed).done()
    assert {"mine", "teach"} <= set(again.ran)
    assert server.asked["teacher"] == before["teacher"]
    assert outputs(run)["mine"] == left["mine"]
    mined = json.loads((run / "mine" / "manifest.json").read_text())["result"]
    assert mined["counts_out"]["weak"] > 0


def test_rewards_that_were_paid_for_outlive_a_change_of_mining(run: Path, recipe: Path, server: Server) -> None:
    before = server.asked["reward"]
    changed = settings("mine.rule=bottom_quantile", "mine.bottom_quantile=0.9")
    assert limbeck("run", recipe, "--out", run, *changed, "--until", "mine").done().ran == ["mine"]
    assert server.asked["reward"] == before + 1  # one question beforehand, whether the judge is still there


def test_nothing_to_mine_is_an_error_where_an_arm_needs_it(run: Path, recipe: Path) -> None:
    with patch("limbeck.stages.mine.weak_prompts", return_value=set()):
        complaint = limbeck("run", recipe, "--out", run, *settings("mine.temperature=0.5")).complaint
    assert complaint.startswith("the student fails none of the 12 pool prompts")


def test_evaluate_alone_asks_the_judge_it_is_told(run: Path, server: Server, tmp_path: Path) -> None:
    prompts = write_lines(tmp_path / "prompts.jsonl", [{"prompt": f"Hello {n}"} for n in range(4)])
    small = settings(f"judges.nemotron.endpoint.base_url={server.url}", "evaluate.max_new_tokens=5", "model.dtype=fp32")
    words = ("evaluate", "--model", run / "sft" / "model", "--prompts", prompts, "--judge", "nemotron")
    shown = limbeck(*words, *small, "--out", tmp_path / "out").done().out
    assert shown.startswith("mean reward -")


def test_a_server_that_is_gone_is_one_sentence_and_what_was_answered_is_kept(
    run: Path, recipe: Path, tmp_path: Path
) -> None:
    nowhere = settings("judges.nemotron.endpoint.base_url=http://127.0.0.1:9/v1", "evaluate.max_new_tokens=4")
    complaint = limbeck("run", recipe, "--out", run, *nowhere).complaint
    assert "http://127.0.0.1:9/v1" in complaint
