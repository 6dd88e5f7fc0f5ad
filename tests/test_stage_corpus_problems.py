"""Word problems out of the user's own files: kept as problems, never trained on and judged by, scored exactly."""

import json
import random
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
from limbeck.stages.corpus.assembly import hold_out
from limbeck.store import read_records, write_records
from limbeck.tasks import draw_splits, score
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


def test_a_problem_that_stands_elsewhere_as_mere_text_is_the_same_prompt(tmp_path: Path) -> None:
    """What only the judge may see, or only validation, is not trained on in another format."""
    asked = [apples(number) for number in range(20, 60)]
    judged = [{"prompt": row["question"], "chosen": row["answer"], "rejected": "No idea."} for row in asked[:12]]
    corpus = {
        "judging": [rows(tmp_path / "judging.jsonl", *judged)],
        "prompts": [rows(tmp_path / "pool.jsonl", *asked)],
        "demonstrations": [rows(tmp_path / "sft.jsonl", apples(7), apples(8))],
        "evaluation": [rows(tmp_path / "test.jsonl", apples(9))],
    }
    data: dict[str, Any] = {"corpus": corpus, "evaluate": {"judges": ["local"]}, "arms": {"a": {"zero_shot": 4}}}
    result = run(Recipe.model_validate({"name": "x"} | data), {}, tmp_path / "out")
    pool = {row.prompt[0].content for row in read_records(tmp_path / "out" / "pool.jsonl", PromptRow)}
    assert pool == {row["question"] for row in asked[12:]}
    assert result.drops["pool: same prompt as a pair set aside for the judge"] == 12
    told = [Demonstration(id=f"{kind}{n}", prompt=user_prompt(row["question"]), source="s", response="x",
                          problem=problem_of(row["question"], read_answer(row["answer"])) if kind == "a" else None)
            for n, row in enumerate(asked[:10]) for kind in "ab"]  # fmt: skip
    parts = hold_out(told, 0.3, random.Random(1))
    assert not {row.prompt for row in parts.train} & {row.prompt for row in parts.validation}
    assert parts.shared


def test_what_an_earlier_run_held_for_its_problems_is_one_in_the_next_run_too(tmp_path: Path) -> None:
    """Problems of a generator are told apart by content, and their files keep it."""
    drawn = draw_splits({"test": 3, "pool": 3}, ("leg_counting",), seed=1)
    write_records(tmp_path / "prompts.jsonl", [*drawn["test"], *drawn["pool"]])
    held_out = EvaluationPrompts(drawn["test"])
    corpus = {
        "prompts": [{"path": str(tmp_path / "prompts.jsonl")}],
        "demonstrations": [rows(tmp_path / "sft.jsonl", apples(7), apples(8))],
        "evaluation": [rows(tmp_path / "test.jsonl", apples(9))],
    }
    run(recipe(corpus=corpus, mine={"judge": "verifier"}), {}, tmp_path / "out")
    pool = read_records(tmp_path / "out" / "pool.jsonl", PromptRow)
    assert len(pool) == 6
    assert sum(held_out.overlap(row) is not None for row in pool) == 3
    assert {row.problem.content for row in pool if row.problem} == {
        row.problem.content for split in drawn.values() for row in split if row.problem
    }
    assert all(row.reference_response for row in pool)


def test_the_answer_to_a_later_turn_that_is_judged_is_not_trained_on(tmp_path: Path) -> None:
    turns = {"prompt_id": 1, "turns": ["Name a city.", "And its river?"]}
    said = ["Name a city.", "Rome.", "And its river?", "The Tiber."]
    messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, said, strict=True)]
    (tmp_path / "sft.json").write_text(json.dumps([{"messages": messages}, {"messages": messages[2:]}]))
    (tmp_path / "test.json").write_text(json.dumps([turns]))
    corpus = {"demonstrations": [{"path": str(tmp_path / "sft.json")}],
              "evaluation": [{"path": str(tmp_path / "test.json")}]}  # fmt: skip
    data = {"name": "x", "corpus": corpus, "evaluate": {"judges": ["nemotron"]}}
    result = run(Recipe.model_validate(data), {}, tmp_path / "out")
    assert result.drops == {"demonstrations: overlap with evaluation: same prompt": 1}


def test_what_validates_an_sft_arm_is_in_no_pool_and_no_pair(tmp_path: Path) -> None:
    asked = [apples(number) for number in range(20, 60)]
    human = [{"prompt": row["question"], "chosen": row["answer"], "rejected": "No idea."} for row in asked]
    both = rows(tmp_path / "both.jsonl", *asked)
    corpus = {"demonstrations": [both], "prompts": [both], "preferences": [rows(tmp_path / "human.jsonl", *human)],
              "evaluation": [rows(tmp_path / "test.jsonl", apples(9))], "validation_share": 0.1}  # fmt: skip
    result = run(recipe(corpus=corpus, mine={"judge": "verifier"}), {}, tmp_path / "out")
    reason = "same prompt as a validation demonstration"
    assert result.drops == {f"pool: {reason}": 4, f"preferences: {reason}": 4}
    held = {row.prompt for row in read_records(tmp_path / "out" / "demonstrations_validation.jsonl", Demonstration)}
    assert len(held) == 4
    assert not held & {row.prompt for row in read_records(tmp_path / "out" / "pool.jsonl", PromptRow)}
    assert not held & {row.prompt for row in read_records(tmp_path / "out" / "human.jsonl", Pair)}
