"""Word problems out of the user's own files: kept as problems, never trained on and judged by, scored exactly."""

import json
from pathlib import Path
from typing import Any

import pytest

from limbeck import pipeline
from limbeck.errors import RecipeError
from limbeck.likeness import EvaluationPrompts
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import Screen
from limbeck.records import Demonstration, Pair, Problem, PromptRow, user_prompt
from limbeck.screening import HeldOut, Screening
from limbeck.stages.corpus import run
from limbeck.store import read_records
from limbeck.tasks import score
from limbeck.tasks.numeric import problem_of, read_answer


def rows(path: Path, *rows: dict[str, str]) -> dict[str, str]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"path": str(path)}


def apples(number: int) -> dict[str, str]:
    return {"question": f"Ann has {number:,} apples and eats one. How many are left?",
            "answer": f"{number} - 1 = <<{number}-1={number - 1}>>{number - 1}\n#### {number - 1:,}"}  # fmt: skip


def recipe(**sections: Any) -> Recipe:
    return Recipe.model_validate({"name": "x", "evaluate": {"judges": ["verifier"]}} | sections)


def test_prompts_demonstrations_and_evaluation_keep_the_problem_and_no_held_out_one_is_trained_on(
    tmp_path: Path,
) -> None:
    held_out = apples(1000)
    again = held_out | {"question": "ANN has 1000 apples, and eats one. How many are left?"}
    corpus = {
        "evaluation": [rows(tmp_path / "test.jsonl", held_out, apples(7))],
        "demonstrations": [rows(tmp_path / "sft.jsonl", again, apples(8), apples(9))],
        "prompts": [rows(tmp_path / "pool.jsonl", again, apples(10), {"question": "Who?", "answer": "Ann"})],
    }
    result = run(recipe(corpus=corpus), {}, tmp_path)
    reason = "overlap with evaluation: same problem"
    assert result.drops == {f"demonstrations: {reason}": 1, f"pool: {reason}": 1}
    test = read_records(tmp_path / "test.jsonl", PromptRow)
    shown = read_records(tmp_path / "demonstrations.jsonl", Demonstration)
    shown += read_records(tmp_path / "demonstrations_validation.jsonl", Demonstration)
    assert sorted(row.problem.answer for row in (*test, *shown) if row.problem) == ["6", "7", "8", "999"]
    assert all(row.problem and score(row.problem, row.response).solved for row in shown)
    pool = read_records(tmp_path / "pool.jsonl", PromptRow)
    assert {(row.problem.answer if row.problem else None, row.topic) for row in pool} == {
        ("9", "gsm8k"),
        (None, "pool"),
    }


def test_a_run_of_files_with_numbers_may_be_judged_by_the_verifier_and_one_without_is_refused(tmp_path: Path) -> None:
    sft = rows(tmp_path / "sft.jsonl", apples(8))
    good = rows(tmp_path / "good.jsonl", {"question": "Who?", "answer": "Ann"}, apples(3))
    bad = rows(tmp_path / "bad.jsonl", {"prompt": "Who?"}, {"prompt": " "})
    pipeline.check(recipe(corpus={"demonstrations": [sft], "evaluation": [good]}))
    with pytest.raises(RecipeError, match=r"corpus\.evaluation holds none"):
        pipeline.check(recipe(corpus={"demonstrations": [sft], "evaluation": [bad]}))
    mined = {"arms": {"a": {"zero_shot": 5}}, "mine": {"judge": "verifier"}}
    pipeline.check(recipe(corpus={"demonstrations": [sft], "evaluation": [good], "prompts": [good]}, **mined))
    with pytest.raises(RecipeError, match=r"corpus\.prompts holds none"):
        pipeline.check(recipe(corpus={"demonstrations": [sft], "evaluation": [good], "prompts": [bad]}, **mined))


def test_a_pair_on_a_held_out_problem_in_nearly_its_words_is_screened_out_as_free_text_would_be() -> None:
    def problem(question: str) -> Problem:
        found = problem_of(question, read_answer("#### 4"))
        assert found is not None
        return found

    def pair(question: str) -> Pair:
        made = {"id": question, "prompt": user_prompt(question), "source": "zero_shot", "problem": problem(question)}
        return Pair.model_validate(made | {"chosen": "So it is this.\n#### 4", "rejected": "It may be that.\n#### 5"})

    question = "Ann picks four red apples from the tall old tree and eats none of them. How many does Ann have now?"
    held_out = PromptRow(id="t", prompt=user_prompt(question), source="s", problem=problem(question))
    screening = Screening(
        Screen(), HeldOut(EvaluationPrompts([held_out]), Screen()), lambda p, text: score(p, text).solved
    )
    assert screening.reason(pair(question.replace("Ann", "Eve"))) is not None
    assert screening.reason(pair("Bo has nine blue boats, sells five of them. How many boats are left?")) is None
