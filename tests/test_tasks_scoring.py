"""Finding the final answer, and scoring it with the generator's own scorer."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import RecipeError
from limbeck.records import Problem
from limbeck.tasks import Score, draw_splits, extract_answer, score
from limbeck.tasks.answers import last_value_like

MEGABYTE = 1_000_000


def problem(family: str = "chain_sum", answer: str = "19", **metadata: object) -> Problem:
    return Problem(family=family, question="?", answer=answer, metadata=metadata, solution="", content="")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("12 + 7 = 19\n#### 19", "19"),
        ("#### 1\n#### 2\nbye", "2"),
        ("####19", "19"),
        ("**#### 19**", "19"),
        ("#### **19**", "19"),
        ("#### `19`.", "19"),
        ("#### $1,250.", "1250"),
        ("#### -$5", "-5"),
        ("#### −5", "-5"),
        ("#### 1,234,567.89", "1234567.89"),
        ("#### 19.0", "19"),
        ("#### $80.00", "80"),
        ("#### 80°", "80"),
        ("#### 2.50", "2.50"),
        ("#### $4/5$", "4/5"),
        ("#### ['14', '7']", "['14', '7']"),
        ("#### Saturday.\r\nmore", "Saturday"),
        ("#### 12 apples", "12 apples"),
        ("#### 1,2", "1,2"),
        ("The answer is 19", None),
        ("####", None),
        ("#### 19\n####\n", None),
        ("#### .", None),
        ("", None),
        ("#### " + "9" * 201, None),
        ("x" * MEGABYTE + "\n#### 19", "19"),
        ("#### 19\n" + "x" * MEGABYTE, "19"),
        ("#### " + "1," * MEGABYTE, None),
        ("#" * MEGABYTE, None),
        ("#### Step 1: Count\n3\n#### Step 2: Add\n3 + 4 = 7", None),
        ("#### Step 2: done", "Step 2: done"),
        ("#### Final Answer\n7", None),
        ("#### The final answer:\n\n**7**", None),
        ("#### Final Answer\n", "Final Answer"),
        ("#### Solution is 7\nbye", "Solution is 7"),
        ("#### 7\n#### Conclusion\nIt is 8.", None),
        ("#### " + " " * MEGABYTE + "x", None),
        ("#### 1\n" * 200_000, "1"),
        ("#### " + "*" * MEGABYTE, None),
    ],
)
def test_the_answer_is_what_stands_behind_the_last_hashes(text: str, answer: str | None) -> None:
    start = time.perf_counter()
    assert extract_answer(text) == answer
    assert time.perf_counter() - start < 0.5


@given(st.text(max_size=400))
def test_no_reply_makes_extraction_or_scoring_raise(text: str) -> None:
    extract_answer(text)
    score(problem(), "#### " + text)


def test_solved_means_a_score_of_exactly_one() -> None:
    assert score(problem(), "#### 19") == Score(1.0, solved=True, parsed=True)
    partial = score(problem(), "#### 19 or so")
    assert 0 < partial.score < 1
    assert not partial.solved


def test_without_a_final_line_the_last_value_of_the_keys_shape_counts() -> None:
    assert score(problem(), "12 + 7 = 18, no, it is 19.").solved
    assert not score(problem(), "It is 19, or perhaps 20.").solved


def test_a_heading_with_text_behind_it_is_no_final_line() -> None:
    assert score(problem(), "#### Step 19: done\nSo it is 20.").score < 1
    assert score(problem(), "#### 2. Add\n12 + 7 = 19").solved
    assert score(problem("calendar_arithmetic", "Monday", task="weekday_of_date"), "#### Answer\n\n**Monday**").solved


def test_a_final_line_outweighs_any_later_value() -> None:
    assert score(problem(), "#### 19\nThat took 20 seconds.").solved


def test_a_reply_with_nothing_of_the_keys_shape_is_not_parsed() -> None:
    assert score(problem(), "I cannot tell.") == Score(0.0, solved=False, parsed=False)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("7", "It costs $1,234.", "1234"),
        ("-7", "so x is -12.", "-12"),
        ("3/4", "3/8 becomes 6 / 8 at last", "6 / 8"),
        ("2/1", "that makes 8", "8"),
        ("['4', '9']", "From ['1'] to ['4', '9'].", "['4', '9']"),
        ("Monday", "It was Tuesday, not Monday.", "Monday"),
        ("7", "none", None),
        ("7", "5 " + "x" * 3_000_000, None),
    ],
)
def test_the_last_value_has_the_shape_of_the_key(key: str, text: str, value: str | None) -> None:
    assert last_value_like(key, text) == value


def test_a_scorer_that_fails_is_reported_and_not_solved() -> None:
    broken = problem("calendar_arithmetic", "Monday")  # its metadata lacks the task that the scorer asks for
    assert score(broken, "#### Monday") == Score(0.0, solved=False, parsed=True, failure="KeyError: 'task'")


def test_an_unknown_family_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"'sudoku'.*chain_sum"):
        score(problem("sudoku"), "#### 1")


@pytest.mark.parametrize("hostile", ["sNaN", "1e999999999", "9" * 190, "__import__('os')", "[" * 180, "\x00"])
def test_hostile_answers_solve_nothing(hostile: str) -> None:
    drawn = draw_splits({"validation": 11, "transfer": 3})
    for row in drawn["validation"] + drawn["transfer"]:
        assert row.problem is not None
        assert not score(row.problem, f"#### {hostile}").solved


@pytest.mark.parametrize(
    ("reply", "key", "solved"),
    [
        ("5 - 17 = -12\n#### -12", "12", False),
        ("5 - 17 = -12\n#### -12", "-12", True),
        ("#### 1,234 dollars", "1234", True),
        ("#### 1,234 dollars", "1", False),
        ("#### 5 + 7 = 12", "12", True),
        ("so it is 12", "12", True),
        ("#### 12.0", "12", True),
        ("#### Step 1: Count\n3\n#### Step 2: Add\n3 + 4 = 7\n\nThe answer is **7**.", "7", True),
        ("#### Final Answer\n7", "7", True),
        ("#### Step 7: done\n the answer is 9", "7", False),
        ("#### Step 7: done\n the answer is 9", "9", True),
        ("The answer is 5. Check: 5 * 3 = 15.", "5", True),
    ],
)
@pytest.mark.parametrize("family", ["gsm_symbolic", "gsm_symbolic_held_out"])
def test_a_word_problems_number_is_compared_with_its_sign_and_its_thousands(
    family: str, reply: str, key: str, solved: bool
) -> None:
    assert score(problem(family, key), reply).solved is solved
