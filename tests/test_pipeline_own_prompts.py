"""A whole run on own prompts: no built-in task, no key, no judge but the one that the run trains for itself.

The rows are real ones where they lie beside the checkout: instructions, chat pairs and MT-bench's questions.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from street import limbeck, student, write_lines

from limbeck.api.fake_server import Body, FakeServer, completion
from limbeck.likeness import opening
from limbeck.manifest import MANIFEST
from limbeck.records import Pair, PromptRow, WeakPrompt
from limbeck.records.verdict import JudgeCard, Verdict
from limbeck.seeds import derive
from limbeck.store import read_records

SHARED = Path(__file__).parents[2] / "shared" / "data"
RECIPE = """
name = "own"
[model]
student = {student}
device = "cpu"
dtype = "fp32"
max_prompt_tokens = 400
max_response_tokens = 400
[[corpus.demonstrations]]
path = {demonstrations}
limit = 24
[[corpus.{pairs_or_prompts}]]
path = {prompts}
limit = {limit}
[[corpus.evaluation]]
path = {evaluation}
limit = 6
[corpus.chat]
train = 2
heldout = 2
max_new_tokens = 6
[sft]
max_steps = 2
batch_size = 4
[reward]
max_steps = 2
batch_size = 4
[mine]
max_new_tokens = 12
[teach]
teacher = "openai:some-model"
endpoint.base_url = {url}
endpoint.max_retries = 0
[mix]
heldout_pairs = 2
[arms.zero_shot]
zero_shot = 4
[dpo]
max_steps = 2
batch_size = 3
[evaluate]
max_new_tokens = 12
"""
TRAINED_ON = ("demonstrations", "demonstrations_validation", "pool", "human", "chat_train")


def answer(body: Body) -> httpx.Response:
    number = derive(1, json.dumps(body["messages"])) % 10**6
    pair = {
        "preferred": f"Here is what matters, {number} first.",
        "dispreferred": "Perhaps, perhaps not.",
    }
    return completion(json.dumps(pair))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with FakeServer(answer, models=("some-model",)).listen() as address:
        yield address


@pytest.fixture(autouse=True)
def keyless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for variable in ("OPENAI_API_KEY", "NVIDIA_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


def sources(folder: Path) -> dict[str, Path]:
    """Real rows where they are there, else rows of the same shapes."""
    if SHARED.is_dir():
        names = {"demonstrations": "alpaca_en_demo.json", "prompts": "dpo_en_demo.json", "evaluation": "mt_bench.jsonl"}
        return {role: SHARED / name for role, name in names.items()}
    turns = [[f"Write a poem about place {n}.", "Now make it shorter."] for n in range(10)]
    rows: dict[str, Sequence[object]] = {
        "demonstrations": [{"prompt": f"What is {n}?", "response": f"A number, {n}."} for n in range(30)],
        "prompts": [{"prompt": f"Tell of item {n}.", "chosen": f"All of {n}.", "rejected": "No."} for n in range(60)],
        "evaluation": [{"question_id": n, "turns": both} for n, both in enumerate(turns)],
    }
    return {role: write_lines(folder / f"{role}.jsonl", lines) for role, lines in rows.items()}


def long_student(folder: Path) -> Path:
    """A tiny student that takes long conversations: its tokens are mostly single characters."""
    config = student(folder) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 8192}))
    return folder


def carried_out(folder: Path, url: str, pairs_or_prompts: str, limit: int) -> Path:
    places = {"student": long_student(folder / "base"), "url": url, **sources(folder)}
    text = {name: json.dumps(str(place)) for name, place in places.items()}
    (folder / "recipe.toml").write_text(RECIPE.format(pairs_or_prompts=pairs_or_prompts, limit=limit, **text))
    limbeck("run", folder / "recipe.toml", "--out", folder / "run").done()
    return folder / "run"


@pytest.fixture(scope="module")
def taught(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts only: nobody but the teacher writes pairs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        return carried_out(tmp_path_factory.mktemp("taught"), url, "prompts", 40)


@pytest.fixture(scope="module")
def human(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Human pairs, whose prompts are mined."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        return carried_out(tmp_path_factory.mktemp("human"), url, "preferences", 100)


def facts(unit: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((unit / MANIFEST).read_text())["result"]["facts"]
    return found


def openings(path: Path, kind: type[PromptRow]) -> set[tuple[str, str]]:
    return {opening(row) for row in read_records(path, kind)}


@pytest.mark.parametrize("flow", ["taught", pytest.param("human", marks=pytest.mark.slow)])
def test_the_run_ends_with_a_verdict_by_a_judge_whose_accuracy_was_measured(
    flow: str, request: pytest.FixtureRequest
) -> None:
    run: Path = request.getfixturevalue(flow)
    verdict = Verdict.model_validate_json((run / "verdict" / "verdict.json").read_text())
    assert {comparison.judge for comparison in verdict.comparisons} == {"local"}
    assert "zero_shot" in verdict.sentence
    card = JudgeCard.model_validate_json((run / "reward" / "card.json").read_text())
    assert card.judge == "local"
    assert card.accuracy is not None
    assert card.longer_is_chosen is not None
    assert card.limits


def test_without_any_pair_to_begin_with_nobody_mines_and_every_prompt_counts_as_weak(taught: Path) -> None:
    asked = {row.id for row in read_records(taught / "corpus" / "pool.jsonl", PromptRow)}
    weak = read_records(taught / "mine" / "weak.jsonl", WeakPrompt)
    assert facts(taught / "mine")["rule"] == "all"
    assert facts(taught / "mine")["judge"] == "nobody (rule all)"
    assert {row.id for row in weak} <= asked
    assert len(weak) > 4


def test_the_judge_learns_from_pairs_of_the_teacher_on_which_no_arm_trains(taught: Path) -> None:
    card = JudgeCard.model_validate_json((taught / "reward" / "card.json").read_text())
    assert "trained on the teacher's own pairs: it prefers what the teacher writes" in card.limits
    for_judge = read_records(taught / "screen" / "judging.jsonl", Pair)
    assert len(for_judge) == 4  # as many as the arm asks for
    shut = {opening(pair) for pair in for_judge}
    for name in ("train", "validation"):
        assert shut.isdisjoint(openings(taught / "mix" / "zero_shot" / f"{name}.jsonl", Pair))


@pytest.mark.slow
def test_what_mines_is_not_what_judges_the_result(human: Path) -> None:
    assert facts(human / "mine")["judge"] == "local"
    assert facts(human / "mine")["rule"] == "gap"  # the chosen responses are references
    judge, miner = (read_records(human / "corpus" / f"{name}.jsonl", Pair) for name in ("judging", "judging_mine"))
    assert {opening(pair) for pair in judge}.isdisjoint(opening(pair) for pair in miner)
    weights = [(human / unit / "model" / "model.safetensors").read_bytes() for unit in ("reward", "reward_mine")]
    assert weights[0] != weights[1]


@pytest.mark.slow
def test_what_the_judges_learn_from_is_in_nothing_that_is_trained_on_or_asked(human: Path) -> None:
    corpus = human / "corpus"
    shut = openings(corpus / "judging.jsonl", Pair) | openings(corpus / "judging_mine.jsonl", Pair)
    assert shut
    for name in TRAINED_ON:
        rows = [json.loads(line) for line in (corpus / f"{name}.jsonl").read_text().splitlines()]
        prompts = [PromptRow(id=row["id"], prompt=row["prompt"], source=row["source"]) for row in rows]
        assert shut.isdisjoint(opening(row) for row in prompts), name
    assert shut.isdisjoint(openings(corpus / "test.jsonl", PromptRow))


def test_the_later_turns_of_mt_bench_go_with_their_prompt(taught: Path) -> None:
    rows = read_records(taught / "corpus" / "test.jsonl", PromptRow)
    assert len(rows) == 6
    assert all(len(row.follow_ups) == 1 for row in rows)
