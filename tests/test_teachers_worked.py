"""The embedded teacher: real problems, the strict parser, the task's own scorer; and what a teacher is chosen by."""

from pathlib import Path

import pytest

from limbeck import tasks
from limbeck.api import Answered, Failed, ReplyStore
from limbeck.errors import RecipeError
from limbeck.recipe import Recipe
from limbeck.records import PromptRow, WeakPrompt, user_prompt
from limbeck.teachers import NewPromptRow, OpenAITeacher, Request, WorkedTeacher, ask, teacher_for
from limbeck.teachers.parsing import ParsedPair, parse_pair, parse_prompt
from limbeck.teachers.rendering import new_prompt_request, zero_shot_request

ROWS = tasks.draw_splits({"pool": 40}, seed=3)["pool"]
WEAK = WeakPrompt(id="w", prompt=user_prompt("hard"), source="s")


def recipe(teacher: str) -> Recipe:
    return Recipe.model_validate({"name": "r", "corpus": {"tasks": {}}, "teach": {"teacher": teacher}})


def texts(seed: int, rows: tuple[PromptRow, ...]) -> dict[str, str]:
    teacher = WorkedTeacher(seed)
    return {row.id: teacher.answer(zero_shot_request(row)).text for row in rows}


def test_every_answer_passes_the_strict_parser_and_the_scorer_agrees_with_it() -> None:
    for row in ROWS:
        answer = WorkedTeacher(1).answer(zero_shot_request(row))
        if isinstance(answer, Failed):
            assert answer.reason == "no_slip"
            continue
        parsed = parse_pair(answer.text)
        assert isinstance(parsed, ParsedPair)
        assert row.problem is not None
        assert tasks.score(row.problem, parsed.preferred).solved
        assert not tasks.score(row.problem, parsed.dispreferred).solved


def test_most_problems_have_a_slip() -> None:
    answers = [WorkedTeacher(1).answer(zero_shot_request(row)) for row in ROWS]
    assert sum(isinstance(answer, Answered) for answer in answers) > 0.9 * len(ROWS)


def test_the_same_seed_slips_alike_in_any_order_and_another_seed_does_not() -> None:
    assert texts(1, ROWS) == texts(1, ROWS[::-1])
    assert texts(1, ROWS) != texts(2, ROWS)


def test_the_rendered_messages_change_nothing() -> None:
    with_messages = zero_shot_request(ROWS[0])
    without = Request("zero_shot", ROWS[0], ())
    assert WorkedTeacher(1).answer(with_messages) == WorkedTeacher(1).answer(without)


def test_a_prompt_without_a_problem_is_a_typed_failure() -> None:
    answer = WorkedTeacher(1).answer(zero_shot_request(WEAK))
    assert isinstance(answer, Failed)
    assert answer.reason == "no_problem"


def test_a_new_prompt_is_the_fresh_problems_question() -> None:
    handed = NewPromptRow(id="n", weak=(WEAK,), fresh=ROWS[0])
    assert ROWS[0].problem is not None
    assert parse_prompt(WorkedTeacher(1).answer(new_prompt_request(handed, 0)).text) == ROWS[0].problem.question
    empty = WorkedTeacher(1).answer(new_prompt_request(NewPromptRow(id="n", weak=(WEAK,)), 0))
    assert isinstance(empty, Failed)


def test_worked_replies_pass_through_the_store_too(tmp_path: Path) -> None:
    requests = [zero_shot_request(row) for row in ROWS[:5]]
    noted: list[tuple[str, bool]] = []

    def note(key: str, from_store: bool) -> None:
        noted.append((key, from_store))

    with ReplyStore(tmp_path / "replies.sqlite") as store:
        first = ask(WorkedTeacher(1), requests, store, note)
        assert ask(WorkedTeacher(1), requests, store, note) == first
        assert ask(WorkedTeacher(2), requests, store)[0].key != first[0].key
    assert noted == [(reply.key, from_store) for from_store in (False, True) for reply in first]


def test_a_teacher_is_chosen_by_name_and_an_unknown_name_says_what_is_known() -> None:
    assert isinstance(teacher_for(recipe("worked")), WorkedTeacher)
    chosen = teacher_for(recipe("openai:org/model:free"))
    assert isinstance(chosen, OpenAITeacher)
    assert chosen.name == "openai:org/model:free"
    for name in ("gpt-4o", "openai:", "anthropic:x", ""):
        with pytest.raises(RecipeError, match="openai:MODEL"):
            teacher_for(recipe(name))
