"""Problems out of files: which number a reply ends up with, exact comparison, and GSM8K's own rows."""

import json
import random
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.judges import Verifier
from limbeck.likeness import SAME_PROBLEM, EvaluationPrompts
from limbeck.records import Problem, PromptRow, Reply, user_prompt
from limbeck.tasks import score, slip
from limbeck.tasks.numeric import final_number, problem_of, read_answer, written

REAL = Path(__file__).parents[2] / "shared" / "data" / "gsm8k_train.jsonl"
QUESTION = "Ann has 1,200 apples and eats 5. How many are left?"


def made(question: str = QUESTION, answer: str = "1,200 - 5 = <<1200-5=1195>>1,195 apples.\n#### 1,195") -> Problem:
    found = problem_of(question, read_answer(answer))
    assert found is not None
    return found


def test_a_row_of_gsm8k_becomes_a_problem_with_a_plain_key_and_no_calculator_notes() -> None:
    found = made()
    assert (found.family, found.answer, found.metadata) == ("gsm8k", "1195", {"worded": True})
    assert found.solution == "1,200 - 5 = 1,195 apples.\n#### 1,195"


@pytest.mark.parametrize(
    ("answer", "key"),
    [("#### 72", "72"), ("x\n#### -3", "-3"), ("#### $1,250.50", "1250.5"), ("72", "72"), ("#### 3/4", "0.75"),
     ("#### 1/3", "1/3"), ("$7.00", "7"), ("#### 10,00,000", "1000000")],
)  # fmt: skip
def test_the_key_is_the_number_that_stands_alone(answer: str, key: str) -> None:
    assert made(answer=answer).answer == key


@pytest.mark.parametrize(
    "answer", ["Paris", "", "####", "#### 72 clips", "in 1969", "#### 5\nand more", "#### 60%", "12:30", "#### 1.2.3",
               "#### 1e50", "#### 1e-40"]
)  # fmt: skip
def test_an_answer_that_is_no_one_number_makes_no_problem(answer: str) -> None:
    assert problem_of(QUESTION, read_answer(answer)) is None


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("5 + 67\n#### 72", "72"),
        ("#### 1\n#### $1,072.00", "1072"),
        ("#### **72** clips in 2 months", "72"),
        ("#### 5 + 67 = 72", "72"),
        ("#### 12 - 5 = x = 7 apples", "7"),
        ("so \\boxed{72}. That was 3 steps.", "72"),
        ("so $\\boxed{\\frac{3}{4}}$ of it", "0.75"),
        ("\\boxed{\\text{about} 5}", "5"),
        ("The answer is 72, after 3 steps.", "72"),
        ("Answer: $72.50", "72.5"),
        ("**Final answer:** 48 + 24 = 72 clips", "72"),
        ("She has 5 - 3 = 2", "2"),
        ("from 5-3 to 4", "4"),
        ("It is -3", "-3"),
        ("It is −3 degrees", "-3"),
        ("minus (-7)", "-7"),
        ("That is 2 1/2 hours", "2.5"),
        ("1 / 4", "0.25"),
        ("1,234,567.0 in all", "1234567"),
        ("70\u202f000", "70000"),
        ("$0.50", "0.5"),
        (".5", "0.5"),
        ("1.5e3", "1500"),
        ("#### \n72", "72"),
        ("There are 3 boxes, so \\boxed{\\text{18}}", "18"),
        ("There are 3 boxes, so \\boxed{\\text{18 boxes}}", "18"),
        ("There are 3 boxes, so \\boxed{-\\text{1,018}\\text{ of them}}", "-1018"),
        ("#### 4*3", "4"),
        ("#### 2**3", "2"),
        ("#### 4*3 = **12**", "12"),
        ("**Total:** **4*3** = ***12*** boxes", "12"),
        ("#### 18 (= 9*2)", "18"),
        ("#### 3 * 6 = 18 (that is = 9*2)", "18"),
        ("#### 3 boxes (3 * 6 = 18)", "18"),
        ("#### (= 18)", "18"),
        ("#### none, it is 4", "4"),
        ("12km", "12"),
        ("x3 + 4y", "4"),
        ("1/0", None),
        ("no idea", None),
        ("", None),
        ("9" * 40, None),
        ("The answer is 3/4.", "0.75"),
        ("the answer is $\\frac{3}{4}$.", "0.75"),
        ("1/2.5", "2.5"),
        ("\\boxed{18\\text{ dollars}} for 3 people", "18"),
        ("so \\boxed{1{,}000} in 5 days", "1000"),
        ("Apples left:\n  - 18", "18"),
        ("Apples left:\n- -18", "-18"),
        ("#### - 5", "-5"),
        ("it takes 20 - 25 days", "25"),
        ("#### Step 1: Eggs\n16 - 7 = 9\n\n#### Step 2: Money\n9 * 2 = 18\n\nThe answer is 18.", "18"),
        ("#### 1. Eggs\n16 - 7 = 9\n#### 2. Money\n9 * 2 = 18", "18"),
        ("#### **Step 2**\n9 * 2 = 18", "18"),
        ("#### 18. ", "18"),
        ("#### 1.5 dollars", "1.5"),
        ("Answer: 16 - 3 - 4 = 9 eggs are left.\n\nThen 9 * 2 = 18 dollars.", "18"),
        ("**Answer:** 18\n\nThis takes 2 steps.", "18"),
        ("The answer is 5. Check: 5 * 3 = 15.", "5"),
        ("The answer is:\n\n5\n\nCheck: 5 * 3 = 15.", "5"),
        ("The answer is 2.5. Check: 3.", "2.5"),
        ("The third answer was 1800-400 = 1400\nAltogether that is 1800+1400= 3200", "3200"),
        ("So the answer was 7, as 3 of them knew.", "7"),
        ("Answer: 18\n\nCheck: 18 / 2 = 9.", "18"),
        ("She sells 9 eggs. So the answer would be 18. Check: 18 / 2 = 9.", "18"),
        ("9 * 2 = 18\n#### 18. So she makes 18 dollars from 9 eggs", "18"),
    ],
)
def test_the_last_stated_number_of_a_reply_is_its_answer(reply: str, number: str | None) -> None:
    found = final_number(reply)
    assert (None if found is None else written(found.value)) == number


@pytest.mark.parametrize(
    ("reply", "key", "solved"),
    [("60%", "60", True), ("60 percent", "0.6", True), ("0.6", "60", False), ("33.33", "1/3", False),
     ("7.10", "7.1", True), ("7.1000001", "7.1", False), ("72", "73", False)],
)  # fmt: skip
def test_numbers_are_compared_exactly_and_a_percentage_in_either_reading(reply: str, key: str, solved: bool) -> None:
    assert score(made(answer=f"#### {key}"), reply).solved is solved


def test_a_reply_without_a_number_is_not_parsed_and_counts_as_wrong() -> None:
    row = PromptRow(id="a", prompt=user_prompt(QUESTION), source="s", problem=made())
    replies = [Reply(prompt_id="a", text=text, finish_reason="stop", num_tokens=1) for text in ("none", "4", "1195")]
    found = list(Verifier().judge([(row, reply) for reply in replies]))
    assert [(each.score, each.solved, each.parsed) for each in found] == [
        (0.0, False, False), (0.0, False, True), (1.0, True, True),
    ]  # fmt: skip


def test_a_problem_whose_key_was_damaged_scores_nothing_and_says_why() -> None:
    found = score(made().model_copy(update={"answer": "many"}), "4")
    assert (found.score, found.failure) == (0.0, "the key 'many' is no number")


def test_a_held_out_problem_is_found_in_training_by_its_content_whatever_its_case_and_commas() -> None:
    def row(question: str, problem: bool = True) -> PromptRow:
        return PromptRow(
            id=question, prompt=user_prompt(question), source="s", problem=made(question) if problem else None
        )

    held_out = EvaluationPrompts([row(QUESTION)])
    assert held_out.overlap(row("ann has 1200 apples, and eats 5: how many are left")) == SAME_PROBLEM
    assert held_out.overlap(row(f"Please solve this. {QUESTION}", problem=False)) == SAME_PROBLEM
    assert held_out.overlap(row(QUESTION.replace("eats 5", "eats 6"))) is None


def test_wording_shared_with_a_held_out_problem_out_of_a_file_counts_as_for_free_text() -> None:
    words = "the old man who lives next to the river sells nine red boats every single morning"
    held_out = EvaluationPrompts([PromptRow(id="1", prompt=user_prompt(f"{words}. How many in 2 days?"), source="s",
                                            problem=made(f"{words}. How many in 2 days?"))])  # fmt: skip
    free = PromptRow(id="2", prompt=user_prompt(f"I know that {words}, so what?"), source="s")
    assert held_out.overlap(free) == "overlap with evaluation: 13 words in a row"


def test_a_slip_in_a_worked_answer_is_carried_to_a_wrong_number() -> None:
    problem = made("?", "He read 12 * 2 = 24 pages.\nSo 120 - 24 = 96 pages are left.\n#### 96")
    wrong = slip(problem, random.Random(1))
    assert wrong is not None and wrong.count("\n") == 2
    assert not score(problem, wrong).solved


@given(st.integers(-(10**9), 10**9), st.integers(0, 6))
def test_every_decimal_is_read_back_with_separators_and_currency(number: int, places: int) -> None:
    value = Fraction(number, 10**places)
    sign, digits = ("-" if value < 0 else ""), written(abs(value))
    whole, _, rest = digits.partition(".")
    text = f"{sign}${int(whole):,}{'.' + rest if rest else ''}"
    found = final_number(f"So it is {text}.")
    assert found is not None and found.value == value
    assert score(made(answer=f"#### {written(value)}"), f"#### {text}").solved


@given(st.text(alphabet="0123456789,.-/ $%#\\{}boxed\n=eE", max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    final_number(text)
    problem_of(text, read_answer(text))


@pytest.mark.parametrize(
    "piece", ["1,", "-", "1 ", "\\boxed{", "answer is ", "####", "1/", "9", "{", "\\text{", "(=", "*"]
)
def test_hostile_megabytes_are_read_in_a_moment(piece: str) -> None:
    begun = time.perf_counter()
    final_number(piece * (1_000_000 // len(piece)))
    assert time.perf_counter() - begun < 1


@pytest.mark.skipif(not REAL.is_file(), reason="GSM8K's training file is not here")
def test_every_reference_solution_of_gsm8k_is_right_and_no_shuffled_one_is() -> None:
    rows = [json.loads(line) for line in REAL.read_text(encoding="utf-8").splitlines()]
    problems = [made(row["question"], row["answer"]) for row in rows]
    assert len(problems) == len({problem.content for problem in problems}) == 7473
    assert [problem.answer for problem in problems if not score(problem, problem.solution).solved] == []
    others = problems[1:] + problems[:1]
    different = [(ours, other) for ours, other in zip(problems, others, strict=True) if ours.answer != other.answer]
    assert len(different) > 7300
    assert [ours.question for ours, other in different if score(ours, other.solution).solved] == []
    # Without the `####` line, the last number is the answer of all but these.
    unmarked = [score(problem, problem.solution.rpartition("####")[0]).solved for problem in problems]
    assert sum(unmarked) >= 7266
