"""Evaluation and mining with a reward model on this machine: judged after sampling, by the model that a run trained."""

from pathlib import Path

import pytest
from street import student
from tiny_models import tiny_classifier

from limbeck.judges import LocalJudge
from limbeck.recipe import Mine, Model, Recipe
from limbeck.recipe.corpus import Corpus, Dataset
from limbeck.recipe.pairs import Arm
from limbeck.recipe.verdict import Evaluate
from limbeck.records import Judgement, PromptRow, Reply, WeakPrompt, user_prompt
from limbeck.stages import evaluate, mine
from limbeck.store import read_records, write_records

CPU = Model(device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student(tmp_path_factory.mktemp("local") / "base")


def asked(path: Path, count: int) -> list[PromptRow]:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        PromptRow(id=f"p{n}", prompt=user_prompt(f"Say {n}."), source="own", reference_response=f"Here it is: {n}.")
        for n in range(count)
    ]
    write_records(path, rows)
    return rows


def test_a_run_without_a_verifier_is_judged_by_the_reward_model_it_trained(base: Path, tmp_path: Path) -> None:
    rows = asked(tmp_path / "in" / "test.jsonl", 4)
    inputs = {
        "model": base,
        "test": tmp_path / "in" / "test.jsonl",
        "reward_model": tiny_classifier(tmp_path / "reward"),
    }
    recipe = Recipe(name="x", model=CPU, evaluate=Evaluate(judges=("local",), max_new_tokens=6))
    evaluate.run(recipe, inputs, tmp_path / "out", "sft")
    replies = read_records(tmp_path / "out" / "replies.jsonl", Reply)
    found = read_records(tmp_path / "out" / "judgements_local.jsonl", Judgement)
    judge = LocalJudge(str(inputs["reward_model"]), recipe.judges.local, CPU)
    by_id = {row.id: row for row in rows}
    assert found == list(judge.judge([(by_id[reply.prompt_id], reply) for reply in replies]))
    assert len({judgement.score for judgement in found}) > 1


def test_a_reward_model_mines_by_the_gap_to_the_reference(base: Path, tmp_path: Path) -> None:
    rows = asked(tmp_path / "in" / "pool.jsonl", 8)
    inputs = {
        "student": base,
        "pool": tmp_path / "in" / "pool.jsonl",
        "reward_model": tiny_classifier(tmp_path / "reward"),
    }
    learnt_from = Corpus(judging=(Dataset(path="pairs.jsonl"),))  # what the run trains its judge from
    recipe = Recipe(
        name="x",
        model=CPU,
        corpus=learnt_from,
        arms={"a": Arm(zero_shot=1)},
        mine=Mine(judge="local", rule="gap", max_new_tokens=6),
    )
    mine.run(recipe, inputs, tmp_path / "out")
    found = {each.prompt_id: each.score for each in read_records(tmp_path / "out" / "judgements.jsonl", Judgement)}
    judge = LocalJudge(str(inputs["reward_model"]), recipe.judges.local, CPU)
    references = judge.scores([(row.prompt, row.reference_response or "") for row in rows])
    below = {
        row.id
        for row, reference in zip(rows, references, strict=True)
        if (score := found[row.id]) is not None and reference.score is not None and score < reference.score
    }
    weak = {row.id for row in read_records(tmp_path / "out" / "weak.jsonl", WeakPrompt)}
    assert 0 < len(below) < 8
    assert weak == below
