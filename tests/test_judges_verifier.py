"""The exact judge: worked solutions are right, slips are wrong, and what it cannot say has a reason."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from limbeck.judges import Exchange, Verifier, make_judge
from limbeck.recipe import Recipe
from limbeck.recipe.corpus import Corpus, Tasks
from limbeck.records import Judgement, PromptRow, Reply, user_prompt
from limbeck.tasks import draw_splits


@pytest.fixture(scope="module")
def rows() -> tuple[PromptRow, ...]:
    return draw_splits({"test": 11}, seed=3)["test"]


def reply(row: PromptRow, text: str, sample_index: int = 0) -> Exchange:
    made = Reply(prompt_id=row.id, sample_index=sample_index, text=text, finish_reason="stop", num_tokens=1)
    return row, made


def judged(exchanges: Sequence[Exchange]) -> list[Judgement]:
    return list(Verifier().judge(exchanges))


def test_every_worked_solution_is_solved_with_score_1_and_in_the_order_asked(rows: tuple[PromptRow, ...]) -> None:
    found = judged([reply(row, row.reference_response or "", sample_index=2) for row in rows])
    assert [judgement.prompt_id for judgement in found] == [row.id for row in rows]
    assert {(each.score, each.solved, each.parsed, each.sample_index) for each in found} == {(1.0, True, True, 2)}


def test_a_reply_without_an_answer_is_not_solved_not_parsed_and_still_scored(rows: tuple[PromptRow, ...]) -> None:
    (found,) = judged([reply(rows[0], "")])
    assert (found.score, found.solved, found.parsed, found.unscored_reason) == (0.0, False, False, None)


def test_a_prompt_without_a_problem_is_unscored_with_a_reason_and_not_wrong() -> None:
    row = PromptRow(id="a", prompt=user_prompt("Hello"), source="s")
    (found,) = judged([reply(row, "#### 4")])
    assert (found.score, found.solved) == (None, None)
    assert found.unscored_reason == "no problem behind the prompt"


def test_a_scorer_that_fails_is_not_solved_and_its_failure_is_kept(rows: tuple[PromptRow, ...]) -> None:
    row = next(row for row in rows if row.problem and row.problem.family == "letter_counting")
    assert row.problem is not None
    damaged = row.model_copy(update={"problem": row.problem.model_copy(update={"answer": None})})
    failed, wrong = judged([reply(damaged, "#### 4"), reply(row, "#### 99999")])
    assert (failed.score, failed.solved, failed.parsed) == (0.0, False, True)
    assert (failed.unscored_reason or "").startswith("the scorer failed: TypeError")
    assert (wrong.solved, wrong.unscored_reason) == (False, None)


def test_the_recipe_s_verifier_needs_no_store_and_no_key(tmp_path: Path, rows: tuple[PromptRow, ...]) -> None:
    judge = make_judge("verifier", Recipe(name="x", corpus=Corpus(tasks=Tasks())), tmp_path / "replies.sqlite")
    judge.check()
    assert judge.name == "verifier"
    assert len(list(judge.judge([reply(rows[0], "x")]))) == 1
    assert list(tmp_path.iterdir()) == []
