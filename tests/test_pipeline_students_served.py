"""Models on a user's own server, through the command line: a fake one behind a port of this machine."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from street import SMALL, limbeck, outputs, settings, student, write_lines, write_tiny_recipe

from limbeck import conductor, tasks
from limbeck.api.fake_server import Body, FakeServer, completion
from limbeck.manifest import Manifest, read_manifest
from limbeck.recipe import Evaluate, Model, Recipe, Server
from limbeck.recipe.corpus import Chat, Corpus
from limbeck.records import Demonstration, PromptRow, Reply, WeakPrompt, user_prompt
from limbeck.stages import evaluate
from limbeck.store import read_records, write_records

KEY = "sk-secret-1234567890"


def answer(body: Body) -> httpx.Response:
    """An answer of its own to every prompt, never the right one."""
    number = int(hashlib.sha256(body["messages"][-1]["content"].encode()).hexdigest()[:6], 16)
    return completion(f"I think it is -{number}.")


def address(url: str, name: str = "model", **more: Any) -> list[str]:
    """Options that name a server for a model."""
    fields = {"base_url": url, "model": "m", **more}
    return settings(*SMALL, *(f"servers.{name}.{field}={value}" for field, value in fields.items()))


def manifest(folder: Path) -> Manifest:
    found = read_manifest(folder)
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer(answer)


@pytest.fixture
def url(fake: FakeServer) -> Iterator[str]:
    with fake.listen() as address_:
        yield address_


def test_mine_alone_asks_a_server_and_needs_no_model_here(fake: FakeServer, url: str, tmp_path: Path) -> None:
    words = ("mine", "--tasks", 12, "--out", tmp_path / "out")
    folder = Path(limbeck(*words, *address(url)).done().out.splitlines()[-1])
    replies = read_records(folder / "replies.jsonl", Reply)
    weak = read_records(folder / "weak.jsonl", WeakPrompt)
    assert len(fake.bodies) == len(replies) == len(weak) == 12
    asked = {body["messages"][-1]["content"]: answer(body).json() for body in fake.bodies}
    for row in weak:
        assert row.failures == (asked[row.prompt[-1].content]["choices"][0]["message"]["content"],)
    assert {body["temperature"] for body in fake.bodies} == {0.7}
    result = manifest(folder).result
    assert result.facts["server"] == {"base_url": url, "model": "m"}
    assert result.tokens == {"sampled": 12 * 11}

    # How it is asked is no reason to ask again, and what is fresh needs no server.
    assert limbeck(*words, *address(url, concurrency=2, timeout_seconds=9)).done().ran == []
    fake.models = ()
    assert limbeck(*words, *address(url)).done().ran == []
    # Another model is.
    fake.models = ("n",)
    assert limbeck(*words, *address(url, model="n")).done().ran == ["mine"]
    assert len(fake.bodies) == 24


def test_evaluate_alone_asks_a_server_too(fake: FakeServer, url: str, tmp_path: Path) -> None:
    shown = limbeck("evaluate", "--tasks", 6, "--out", tmp_path, *address(url)).done().out
    assert shown.startswith("accuracy 0.0 % [0.0, 39.0], n = 6; 0 unscored")  # Wilson's interval for 0 of 6
    assert len(fake.bodies) == 6


def test_a_server_is_looked_for_before_an_older_result_is_replaced(fake: FakeServer, url: str, tmp_path: Path) -> None:
    limbeck("evaluate", "--tasks", 6, "--out", tmp_path, *address(url)).done()
    fake.models = ()
    before = outputs(tmp_path)
    assert limbeck("evaluate", "--tasks", 6, "--out", tmp_path, *address(url)).done().ran == []
    complaint = limbeck("evaluate", "--tasks", 5, "--out", tmp_path, *address(url)).complaint
    assert complaint.startswith("servers.model.model: ")
    assert outputs(tmp_path) == before


def test_a_mistake_about_a_server_is_one_sentence_before_any_work(fake: FakeServer, url: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("mine", "--tasks", 3, "--out", out)
    assert limbeck(*words, *address(url, model="x")).complaint == (
        f"servers.model.model: {url} does not serve 'x'; it serves 'm'"
    )
    nowhere = "http://127.0.0.1:9/v1"
    assert limbeck(*words, *address(nowhere)).complaint.startswith(f"servers.model: no server answers at {nowhere} (")
    assert limbeck(*words, *address(url, "sft")).complaint == (
        "servers.sft: limbeck mine has no model of that name; its models are model"
    )
    assert limbeck(*words).complaint.startswith("limbeck mine: give --model, or a server with --set servers.model.")
    assert limbeck(*words, *address(url, modle="y")).complaint == (
        "--set servers.model.modle: unknown key 'servers.model.modle'; did you mean 'model'?"
    )
    assert limbeck(*words, *settings(f"servers.model.base_url={url}")).complaint == (
        "limbeck mine: servers.model.model: field required"
    )
    write_lines(tmp_path / "pairs.jsonl", [])
    screen = limbeck("screen", "--pairs", tmp_path / "pairs.jsonl", "--out", out, *address(url))
    assert screen.complaint == "servers.model: limbeck screen has no model of that name; it asks no model"
    assert not (out / "corpus").exists()
    assert fake.bodies == []


def test_a_key_reaches_the_server_and_nothing_else(
    fake: FakeServer, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    done = limbeck("mine", "--tasks", 3, "--out", tmp_path, *address(url, api_key_env="MY_KEY")).done()
    assert {headers["authorization"] for headers in fake.headers} == {f"Bearer {KEY}"}
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"servers" in written
    assert KEY not in done.out + done.err
    assert KEY.encode() not in written


def test_a_killed_command_loses_what_was_in_flight_and_asks_only_for_the_rest(tmp_path: Path) -> None:
    killed: list[subprocess.Popen[str]] = []

    def kill_at_the_seventh(body: Body) -> httpx.Response:
        if len(fake.bodies) == 7 and killed:
            killed.pop().send_signal(signal.SIGKILL)
        return answer(body)

    fake = FakeServer(kill_at_the_seventh)
    with fake.listen() as url:
        words = ["mine", "--tasks", "12", "--out", str(tmp_path), *address(url, concurrency=1)]
        command = [sys.executable, "-m", "limbeck.cli", *words]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, text=True) as process:
            killed.append(process)
            assert process.wait(200) == -signal.SIGKILL
        assert len(read_records(tmp_path / "mine" / "replies.jsonl", Reply)) == 6
        assert "mine" in limbeck(*words).done().ran
    prompts = [body["messages"][-1]["content"] for body in fake.bodies]
    assert len(prompts) == 13
    assert len(set(prompts)) == 12
    assert prompts[6] == prompts[7]


def test_a_run_asks_servers_where_models_have_them_and_waits_for_one_that_serves_a_trained_model(
    tmp_path: Path,
) -> None:
    recipe = write_tiny_recipe(tmp_path / "tiny.toml", student(tmp_path / "base"))
    out = tmp_path / "run"
    fakes = {name: FakeServer(answer, models=(f"tiny-{name}",)) for name in ("base", "sft")}
    with fakes["base"].listen() as base:
        with fakes["sft"].listen() as sft:
            pass  # its address, and nobody there any more
        served = settings(
            f"servers.base.base_url={base}", "servers.base.model=tiny-base",
            f"servers.sft.base_url={sft}", "servers.sft.model=tiny-sft",
        )  # fmt: skip
        words = ("run", recipe, "--out", out, "--until", "mine", *served)
        stopped = limbeck(*words)
        assert stopped.complaint.startswith(f"servers.sft: no server answers at {sft}")
        assert stopped.ran == ["corpus", "retain", "sft"]  # what the server is to hold is trained first
    assert len(fakes["base"].bodies) == 10  # the base model's chat replies
    assert manifest(out / "retain").result.facts["server"]["model"] == "tiny-base"
    with fakes["sft"].listen() as sft:
        moved = settings(f"servers.sft.base_url={sft}")
        # The base model's server has done its part and is not missed; the student's is asked for every pool prompt.
        assert limbeck(*words, *moved).done().ran == ["mine"]
    assert len(fakes["sft"].bodies) == 12
    pools = {row.prompt[-1].content for row in read_records(out / "corpus" / "pool.jsonl", PromptRow)}
    assert {body["messages"][-1]["content"] for body in fakes["sft"].bodies} == pools


def test_a_server_that_is_missing_is_said_before_a_run_starts_to_train(tmp_path: Path) -> None:
    recipe = write_tiny_recipe(tmp_path / "tiny.toml", student(tmp_path / "base"))
    nowhere = settings("servers.base.base_url=http://127.0.0.1:9/v1", "servers.base.model=m")
    stopped = limbeck("run", recipe, "--out", tmp_path / "run", *nowhere)
    assert stopped.complaint.startswith("servers.base: no server answers at http://127.0.0.1:9/v1")
    assert stopped.ran == []
    wrong = settings("servers.mixd.base_url=http://127.0.0.1:9/v1", "servers.mixd.model=m")
    assert limbeck("run", recipe, "--out", tmp_path / "run", *wrong).complaint == (
        "servers.mixd: this recipe has no model of that name; its models are base, sft, random, mixed"
    )
    assert not (tmp_path / "run" / "corpus").exists()


def test_a_server_that_only_answers_validation_problems_is_looked_for_beforehand_too(tmp_path: Path) -> None:
    server = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
    evaluate_on = {"evaluate": {"on": "validation"}, "servers": {"base": server}}
    recipe = Recipe.model_validate({"name": "x", "corpus": {"tasks": {}}, "arms": {"a": {"random": 4}}} | evaluate_on)
    needed = partial(conductor._servers_needed, recipe, tmp_path / "base", tmp_path / "run")
    assert list(needed(["sft", "validate"])) == ["base"]
    assert list(needed(["sft", "mine"])) == []


def test_a_served_models_replies_are_the_servers_and_its_chat_retention_is_of_its_weights(
    fake: FakeServer, url: str, tmp_path: Path
) -> None:
    base = student(tmp_path / "base")
    chat = [Demonstration(id=str(n), prompt=user_prompt(f"Hi {n}"), source="own", response="Hello.") for n in range(3)]
    test = tasks.draw_splits(dict.fromkeys(tasks.SPLITS, 0) | {"pool": 2}, ("chain_sum",), 1)["pool"]
    inputs = {"model": base, "test": tmp_path / "test.jsonl", "chat_heldout": tmp_path / "chat.jsonl"}
    write_records(inputs["test"], test)
    write_records(inputs["chat_heldout"], chat)
    settings_ = {"model": Model(device="cpu", dtype="fp32"), "corpus": Corpus(chat=Chat(max_new_tokens=4))}
    kept = {}
    for name, servers in {"builtin": {}, "served": {"sft": Server(base_url=url, model="m")}}.items():
        recipe = Recipe(name="x", **settings_, servers=servers, evaluate=Evaluate(max_new_tokens=4))
        out = tmp_path / name
        evaluate.run(recipe, inputs, out, "sft")
        kept[name] = json.loads((out / "retention.json").read_text())
    assert kept["served"]["nats_per_token"] == kept["builtin"]["nats_per_token"] > 1
    asked = {body["messages"][-1]["content"] for body in fake.bodies}
    assert asked == {row.prompt[-1].content for row in (*test, *chat)}
