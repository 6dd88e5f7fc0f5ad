"""Statements in text, and which of them are false."""

import time
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.tasks import check_arithmetic
from limbeck.tasks.arithmetic import canonical_expression, evaluate, slips, statements


@pytest.mark.parametrize(
    "line",
    [
        "12 + 7 = 19",
        "-15 - 8 = -23",
        "3 * -4 = -12",
        "35 onions / 5 onions/minute = 7 minutes",
        "He paid $380,000 x 7/100 = $26,600 for it.",
        "42 × 4 = 168 and 12 ÷ 4 = 3 and 9 − 4 = 5",
        "936 * 25% = 234",
        "9 / 10 = 90.0%",
        "2(27+21) = 96",
        "21 meters * (1 meters / 1 meters) = 21 meters",
        "14/42 = 1/3 blocks per minute",
        "10 / 3 = 3.33",
        "3*x = 20 - 5 = 15",
        "84, 60: 1 * 60 = 60, 84 - 60 = 24",
        "166 total students - 18 dance - 12 basketball - 24 play music = 112",
        "14-12=2 people a week",
    ],
)
def test_true_statements_are_understood_and_pass(line: str) -> None:
    assert any(statement.holds for statement in statements(line))
    assert check_arithmetic(line) == []


@pytest.mark.parametrize(
    ("line", "false"),
    [
        ("12 + 7 = 18", ["12 + 7 = 18"]),
        ("so 1,000 - 1 = 1,001 in all", ["1,000 - 1 = 1,001"]),
        ("5 × 3 = 15, then 15 ÷ 4 = 4", ["15 ÷ 4 = 4"]),
        ("3 * 0.5 = 1 tubes", ["3 * 0.5 = 1"]),
        ("10 * 25% = 25", ["10 * 25% = 25"]),
        ("10 / 3 = 3.34", ["10 / 3 = 3.34"]),
        ("2 + 2 = 4 = 5", ["4 = 5"]),
        ("11 ÷ 2/3 = 16 minutes", ["11 ÷ 2/3 = 16"]),
    ],
)
def test_false_statements_are_named(line: str, false: list[str]) -> None:
    assert check_arithmetic(line) == false


@pytest.mark.parametrize(
    "line",
    [
        "1 hour = 60 minutes", "So $5 = 500 cents", "17 mod 7 = 3", "17 % 7 = 3", "17 / 7 = 2 remainder 3",
        "2^3 + 1 = 9", "sqrt(16) + 1 = 5", "4 times 5 = 20", "20 divided by 4 = 5", "the sum of 3 and 4 = 7",
        "2 / 3 = 0.666...", "20 / 3 = 6.66…", "17 / 7 = 2, remainder 3", "84 / 11 = 7, R7", "12 : 4 + 2 = 5",
        "12: 4 + 2 = 5",
        "100 + 10% = 110", "2 hours * 60 = 120 minutes", "2 * 30 = 1 hour", "3 * 4 = 12", "4 = 5",
    ],
)  # fmt: skip
def test_what_free_text_may_say_rightly_is_no_slip(line: str) -> None:
    assert slips(line) == []


@pytest.mark.parametrize(
    ("line", "false"),
    [
        ("12 + 7 = 18", ["12 + 7 = 18"]),
        ("11*t = 91 - 3 = 84", ["91 - 3 = 84"]),
        ("t = 84 / 11 = 8", ["84 / 11 = 8"]),
        ("Then: 2 + 2 = 5, and on", ["2 + 2 = 5"]),
        ("57 x 11 = 600.", ["57 x 11 = 600"]),
        ("Step 2 : 2 + 2 = 5", []),
        ("good = 1\n6 - 1 = 4 = 4", ["6 - 1 = 4"]),
    ],
)
def test_a_false_computation_that_stands_alone_is_a_slip(line: str, false: list[str]) -> None:
    assert slips(line) == false
    assert set(false) <= set(check_arithmetic(line))


@pytest.mark.parametrize(
    "line",
    ["3*x + 5 = 20", "75 + T = 152", "2x + 20 = 238", "at 10:30 - 9:15 = 1:15", "half * 186 = 93", "4 + = 9", "a == 5"],
)
def test_what_is_not_understood_is_not_called_false(line: str) -> None:
    assert check_arithmetic(line) == []
    assert not any(statement.holds for statement in statements(line))


@given(st.integers(-999, 999), st.sampled_from("+-*"), st.integers(0, 999), st.integers(-3, 3))
def test_a_statement_is_false_exactly_when_its_result_is_off(a: int, operator: str, b: int, off: int) -> None:
    right = {"+": a + b, "-": a - b, "*": a * b}[operator]
    assert check_arithmetic(f"{a} {operator} {b} = {right + off}") == (
        [f"{a} {operator} {b} = {right + off}"] if off else []
    )


@given(st.text(alphabet="0123456789+-*/()=.,%x$ aT\n", max_size=300))
def test_no_text_makes_it_raise(text: str) -> None:
    check_arithmetic(text)


@pytest.mark.parametrize("piece", ["1+", "((((", "1)=", "9" * 90, "1" + ")" * 200 + ",=", "(" * 200 + "1,=", "= "])
def test_megabytes_of_symbols_take_seconds_at_most(piece: str) -> None:
    start = time.perf_counter()
    check_arithmetic(piece * (1_000_000 // len(piece)))
    check_arithmetic("\n".join([piece * (400 // len(piece))] * 100))
    assert time.perf_counter() - start < 3


def apply(a: int, operator: str, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b}[operator]


@given(st.lists(st.tuples(st.sampled_from("+-"), st.lists(st.integers(0, 99), min_size=1, max_size=4)), max_size=5))
def test_evaluation_multiplies_first_and_then_adds_from_the_left(terms: list[tuple[str, list[int]]]) -> None:
    items: list[int | str] = [0]
    for sign, factors in terms:
        items += [sign, factors[0]]
        for factor in factors[1:]:
            items += ["*", factor]
    expected = sum(prod(factors) if sign == "+" else -prod(factors) for sign, factors in terms)
    assert evaluate(items, apply) == expected
    assert evaluate(["(", *items, ")", "*", 3], apply) == 3 * expected


@pytest.mark.parametrize("items", [[], [1, 2], ["+", 1], [1, "+"], ["(", 1], [1, ")"], ["(", ")"]])
def test_what_is_no_expression_is_refused(items: list[int | str]) -> None:
    with pytest.raises(ValueError, match=r"expression|bracket"):
        evaluate(items, apply)


def test_the_order_of_terms_is_not_content() -> None:
    assert canonical_expression([3, "+", 5, "-", 2]) == canonical_expression([5, "-", 2, "+", 3])
    assert canonical_expression([3, "*", 5]) == canonical_expression([5, "*", 3])
    assert canonical_expression([3, "-", 5]) != canonical_expression([5, "-", 3])
    assert canonical_expression([3, "+", 5, "*", 2]) != canonical_expression([2, "+", 5, "*", 3])
