"""The stage that has a model's replies compared, alone and in a run: what it writes, counts, resumes and reads anew."""

import json
from pathlib import Path
from typing import Any

import pytest
from street import limbeck, settings, student, write_lines
from tiny_models import tiny_folder

from limbeck import pipeline
from limbeck.api.fake_judge import FakeJudge, first_wins, longer_wins
from limbeck.api.fake_server import FakeServer, completion
from limbeck.recipe import Recipe
from limbeck.records import PromptRow, Reply, user_prompt
from limbeck.records.verdict import Preference
from limbeck.stages.compare import ALONE, LATER, position_facts, run
from limbeck.store import read_records, write_records


def recipe(url: str, **more: Any) -> Recipe:
    pairwise = {"model": "openai:m", "endpoint": {"base_url": url, "max_retries": 0, "api_key_env": "NO_SUCH_KEY"}}
    judged = {"evaluate": {"judges": ["verifier", "pairwise"]}, "judges": {"pairwise": pairwise}}
    return Recipe.model_validate({"name": "x", "corpus": {"tasks": {}}} | judged | more)


def given(folder: Path, candidate: list[str], baseline: list[str]) -> dict[str, Path]:
    rows = [PromptRow(id=f"p{n}", prompt=user_prompt(f"Say {n}"), source="s") for n in range(len(candidate))]

    def replies(texts: list[str]) -> list[Reply]:
        return [Reply(prompt_id=f"p{n}", text=text, finish_reason="stop", num_tokens=1) for n, text in enumerate(texts)]

    parts = {"test": rows[:-1], "transfer": rows[-1:], "replies": replies(candidate), "baseline": replies(baseline)}
    for name, records in parts.items():
        write_records(folder / f"{name}.jsonl", records)
    return {name: folder / f"{name}.jsonl" for name in parts}


def test_every_reply_is_compared_with_the_baselines_and_what_has_none_is_counted(tmp_path: Path) -> None:
    inputs = given(tmp_path, ["a long one", "b", "same", "alone"], ["a", "b b b", "same"])
    with FakeServer(FakeJudge(longer_wins)).listen() as url:
        result = run(recipe(url), inputs, tmp_path / "out", "arm")
    found = read_records(tmp_path / "out" / "preferences.jsonl", Preference)
    assert [(each.prompt_id, each.outcome) for each in found] == [("p0", "win"), ("p1", "loss"), ("p2", "tie")]
    assert (result.counts_in, result.counts_out, result.drops) == ({"replies": 4}, {"preferences": 3}, {ALONE: 1})
    facts = {"questions": 4, "reasks": 0, "equal_replies": 1, "flips": 0, "flip_rate": 0, "first_position_rate": 0.5}
    assert facts.items() <= result.facts.items()
    assert result.tokens == {"judge_in": 4 * 7, "judge_out": 4 * 11}


def test_later_turns_are_counted_and_not_compared(tmp_path: Path) -> None:
    inputs = given(tmp_path, ["a long one", "b"], ["a", "b b b"])
    replies = read_records(inputs["replies"], Reply)
    write_records(inputs["replies"], [*replies, replies[0].model_copy(update={"prompt_id": "p0/turn-2"})])
    with FakeServer(FakeJudge(longer_wins)).listen() as url:
        result = run(recipe(url), inputs, tmp_path / "out", "arm")
    assert (result.counts_in, result.counts_out, result.drops) == ({"replies": 3}, {"preferences": 2}, {LATER: 1})


def test_a_judge_that_goes_by_the_place_shows_in_both_rates(tmp_path: Path) -> None:
    inputs = given(tmp_path, ["a", "b", "c"], ["x", "y", "z"])
    with FakeServer(FakeJudge(first_wins)).listen() as url:
        facts = run(recipe(url), inputs, tmp_path / "out", "arm").facts
    assert (facts["flip_rate"], facts["first_position_rate"]) == (1.0, 1.0)


def test_rates_are_of_what_was_answered_in_both_orders_and_ties_are_no_place() -> None:
    made = [("candidate", "candidate"), ("candidate", "baseline"), ("tie", "baseline"), ("tie", "tie"),
            ("candidate", None), (None, None)]  # fmt: skip
    found = position_facts([
        Preference.model_validate(
            {"prompt_id": "p", "outcome": None, "candidate_first": ours, "baseline_first": theirs}
        )
        for ours, theirs in made
    ])  # fmt: skip
    assert (found["judged_in_both_orders"], found["flips"], found["flip_rate"]) == (4, 2, 0.5)
    assert found["first_position_rate"] == 0.8  # 4 of the 5 that are no tie: one for the candidate shown second
    assert position_facts([])["flip_rate"] is None


def test_unscored_matchups_are_counted_by_their_reason(tmp_path: Path) -> None:
    inputs = given(tmp_path, ["a", "b"], ["x", "y"])
    with FakeServer(lambda _: completion("Neither.")).listen() as url:
        result = run(recipe(url), inputs, tmp_path / "out", "arm")
    assert result.drops == {"unscored: no verdict in the judge's reply (not JSON)": 2}
    assert result.facts["reasks"] == 4 and result.facts["reasks_that_helped"] == 0


def test_a_local_judge_says_only_verdicts_or_nothing(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "judge", head_dim=16, max_position_embeddings=4096)
    asked = recipe("http://none/v1", model={"device": "cpu", "dtype": "fp32"}, judges={
        "pairwise": {"model": f"local:{folder}", "max_tokens": 900}})  # fmt: skip
    inputs = given(tmp_path, ["a", "b"], ["x", "y"])
    result = run(asked, inputs, tmp_path / "out", "arm")
    found = read_records(tmp_path / "out" / "preferences.jsonl", Preference)
    assert len(found) == 2 and result.facts["questions"] == 4
    assert {each.unscored_reason for each in found} <= {None, "truncated"}
    assert result.facts["judge"] == "local:judge"
    first = (tmp_path / "out" / "preferences.jsonl").read_bytes()
    run(asked, inputs, tmp_path / "again", "arm")
    assert (tmp_path / "again" / "preferences.jsonl").read_bytes() == first


def test_units_compare_every_model_with_the_sft_only_where_the_judge_is_asked_for() -> None:
    def names(asked: Recipe) -> list[str]:
        return [unit.name for unit in pipeline.units(asked, Path("base")) if unit.step == "compare"]

    arms = {"arms": {"one": {"random": 4}}}
    assert names(recipe("http://fake/v1", **arms)) == ["compare/base", "compare/one"]
    assert names(recipe("http://fake/v1", evaluate={"judges": ["verifier"]}, **arms)) == []
    verdict = next(
        unit for unit in pipeline.units(recipe("http://fake/v1", **arms), Path("b")) if unit.name == "verdict"
    )
    assert verdict.inputs["one/preferences"] == Path("compare/one/preferences.jsonl")
    assert "sft/preferences" not in verdict.inputs
    assert not any("judgements_pairwise" in name for name in verdict.inputs)


RECIPE = """
name = "tiny"
[model]
student = {student}
device = "cpu"
dtype = "fp32"
[corpus.tasks]
families = ["chain_sum"]
sft = 8
validation = 2
test = 4
transfer = 2
[sft]
max_steps = 1
batch_size = 4
[evaluate]
judges = ["verifier", "pairwise"]
max_new_tokens = 6
"""


def test_a_run_asks_the_judge_beforehand_then_compares_and_repeats_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server, run_folder, path = FakeServer(FakeJudge(longer_wins)), tmp_path / "run", tmp_path / "r.toml"
    path.write_text(RECIPE.format(student=json.dumps(str(student(tmp_path_factory.mktemp("s"))))))
    with server.listen() as url:
        judge = settings("judges.pairwise.model=openai:m", f"judges.pairwise.endpoint.base_url={url}")
        ran = limbeck("run", path, "--out", run_folder, *judge, "--until", "compare").done().ran
        assert ran[-1] == "compare/base"
        found = read_records(run_folder / "compare" / "base" / "preferences.jsonl", Preference)
        assert len(found) == 6 and all(each.outcome for each in found)
        assert not (run_folder / "evaluate" / "sft" / "judgements_pairwise.jsonl").exists()
        asked = len(server.bodies)
        assert asked == 1 + 2 * len({(p.prompt_id) for p in found if p.candidate_first})
        assert limbeck("run", path, "--out", run_folder, *judge, "--until", "compare").done().ran == []
        assert len(server.bodies) == asked


def test_a_judge_that_gives_no_verdict_stops_a_run_before_anything_is_trained(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.format(student=json.dumps(str(student(tmp_path_factory.mktemp("s"))))))
    with FakeServer(lambda _: completion("As a language model, I like both.")).listen() as url:
        judge = settings("judges.pairwise.model=openai:m", f"judges.pairwise.endpoint.base_url={url}")
        complaint = limbeck("run", path, "--out", tmp_path / "run", *judge).complaint
        assert complaint.startswith("openai:m gives no verdict on a first, short pair")
        assert not (tmp_path / "run" / "corpus").exists()
        reward = settings('evaluate.judges=["nemotron"]', f"judges.nemotron.endpoint.base_url={url}")
        complaint = limbeck("run", path, "--out", tmp_path / "run", *reward).complaint
        assert "'As a language model, I like both.' where a reward was asked for: that is no reward model" in complaint
        assert not (tmp_path / "run" / "corpus").exists()
        prompts = write_lines(tmp_path / "prompts.jsonl", [{"prompt": "Hello"}])
        words = (
            "evaluate",
            "--model",
            student(tmp_path_factory.mktemp("s")),
            "--prompts",
            prompts,
            "--judge",
            "nemotron",
        )
        assert "that is no reward model" in limbeck(*words, *reward[2:], "--out", tmp_path / "alone").complaint
