"""Likeness: which prompts are the same, which answers differ, and what of a training set occurs in the evaluation."""

import pytest

from limbeck.likeness import (
    SAME_PROBLEM,
    SAME_PROMPT,
    SAME_WORDS,
    EvaluationPrompts,
    normalised,
    same_answer,
    same_nesting,
    word_grams,
)
from limbeck.records import Problem, PromptRow, user_prompt

PROBLEM = Problem(family="f", question="2+2?", answer="4", metadata={}, solution="#### 4", content="2+2")
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def row(text: str, problem: Problem | None = None) -> PromptRow:
    return PromptRow(id="x", prompt=user_prompt(text), source="s", problem=problem)


def test_normalising_folds_case_and_space_but_keeps_signs() -> None:
    assert normalised(" Ｗhat  IS\n2 + 2?") == "what is 2 + 2?"
    assert normalised("3 + 4") != normalised("3 - 4")


def test_word_grams_by_hand() -> None:
    assert word_grams("To be, or not", 3) == {("to", "be", "or"), ("be", "or", "not")}
    assert word_grams("to be", 3) == frozenset()


def test_answers_are_the_same_up_to_white_space_only() -> None:
    assert same_answer(" two\n words", "two words ")
    assert not same_answer("2² = 4", "22 = 4")
    assert not same_answer("Polish", "polish")
    assert not same_answer("two words", "twowords")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("for x in xs:\n    f(x)\n    g(x)", "for x in xs:\n    f(x)\ng(x)", False),
        ("for x in xs:\n    f(x)\n\n", "for x in xs:  \n\n    f(x)", True),
        ("```\na\n  b\n```", "```\na\nb\n```", False),
        ("if a:\n\tb", "if a:\n        b", True),
        ("def f():\n    a\n    b", "def f():\n    a b", False),
        ("A list:\n  one\n  two", "A list:\none\n two", True),
    ],
)
def test_indentation_counts_in_code_and_nowhere_else(first: str, second: str, same: bool) -> None:
    assert same_answer(first, second) == same_answer(second, first) == same
    assert same_nesting(first, second) == same


def test_whatever_is_evaluated_is_found_by_its_whole_and_only_free_text_by_thirteen_words() -> None:
    other = PROBLEM.model_copy(update={"content": "3+3"})
    held = EvaluationPrompts([row(f"{LONG} is a task", PROBLEM), row("Free: " + LONG.replace("one", "1"))])
    assert held.overlap(row("in other words", PROBLEM)) == SAME_PROBLEM
    assert held.overlap(row(f"{LONG}  IS a task")) == SAME_PROMPT
    assert held.overlap(row(f"{LONG} is another")) == SAME_WORDS  # "two" to "fourteen", of the free text
    assert held.overlap(row(f"{LONG} is another", other)) is None
    assert EvaluationPrompts([row(f"{LONG} is a task", PROBLEM)]).overlap(row(f"{LONG} is another")) is None


SUM = PROBLEM.model_copy(update={"content": "1+5"})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Calculate 1 + 5!", True),
        ("Please: calculate 1 + 5", True),
        ("Calculate 1 + 5 = ?", True),
        ("Friend, calculate (1 + 5). Then rest - or sleep.", True),
        ("Calculate 1 + 5 - 3.", False),
        ("Calculate 1 - 5.", False),
        ("Calculate 1 + 50.", False),
        ("Calculate 15.", False),
        ("?!", False),
    ],
)
def test_a_free_text_that_says_a_held_out_problem_is_that_problem(text: str, found: bool) -> None:
    held = EvaluationPrompts([row("Calculate 1 + 5.", SUM), row("!?", PROBLEM)])
    assert held.overlap(row(text)) == (SAME_PROBLEM if found else None)
    other = PROBLEM.model_copy(update={"content": "something else"})
    assert held.overlap(row(text, other)) is None  # whose content is known


def test_a_problem_of_few_words_is_found_by_its_whole_only() -> None:
    held = EvaluationPrompts([row("2 + 2?", PROBLEM)])
    assert held.overlap(row("2 + 2!")) == SAME_PROBLEM
    assert held.overlap(row("Everybody knows what 2 + 2 is.")) is None
