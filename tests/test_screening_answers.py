"""Nearly equal answers: what may be blurred and what decides; and the caps on lengths."""

import time
from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st
from screening_pairs import PROBLEM, pair

from limbeck.recipe.pairs import Screen
from limbeck.screening.answers import form_problem, nearly_equal
from limbeck.screening.words import tokens

LONG = (
    "the sky looks blue because the air scatters short waves of light far more strongly than long ones, and so the "
    "blue part of the sunlight reaches our eyes from everywhere, while the red part goes on in a straight line until "
    "it meets the ground or a cloud; in the evening the way through the air is so long that little blue is left."
)


def with_word(word: str, place: int = 20) -> str:
    words = LONG.split()
    return " ".join([*words[:place], word, *words[place + 1 :]])


@pytest.mark.parametrize("other", [with_word("indeed"), LONG.capitalize(), LONG + "!", LONG + " nicely"])
def test_long_answers_that_differ_in_one_harmless_word_or_sign_are_nearly_equal(other: str) -> None:
    assert nearly_equal(LONG, other, 0.97)
    assert form_problem(pair(chosen=LONG, rejected=other), Screen(max_answer_similarity=0.97)) == "nearly equal answers"


@pytest.mark.parametrize(
    ("word", "other"),
    [
        ("12", "13"),
        ("1.5", "1.6"),
        ("x = 3", "x > 3"),
        ("3 + 4", "3 - 4"),
        ("a * b", "a / b"),
        ("two", "three"),
        ("²", "³"),
        ("is", "not"),
        ("does", "doesn't"),
        ("more", "less"),
        ("yes", "no"),
        ("Paris", "Lyon"),
        ("adds", "subtracts"),
        ("и", "не"),
        ("是", "不"),
        ("item.price", "item.cost"),
        ("item_price", "item_cost"),
        ("a[i]", "a[j]"),
        ("rows[first]", "rows[last]"),
        ("sorted(items)", "sorted(words)"),
        ("n", "m"),
        ("`price`", "`cost`"),
        ("`Price`", "`price`"),
        ("```\nprice\n```", "```\ncost\n```"),
    ],
)
def test_a_number_a_sign_a_negation_an_opposite_or_a_name_is_never_blurred(word: str, other: str) -> None:
    assert not nearly_equal(with_word(word), with_word(other), 0.9)
    assert not nearly_equal(with_word("harmless"), with_word(other), 0.9)


def test_a_short_answer_has_no_word_to_spare() -> None:
    assert (
        form_problem(pair(chosen="The answer is twelve birds.", rejected="The answer is twelve bird."), Screen())
        is None
    )
    assert form_problem(pair(chosen="THE SKY", rejected="The sky"), Screen()) is None


def test_corrections_and_scored_problems_may_differ_in_one_word() -> None:
    rules = Screen(max_answer_similarity=0.9)
    other = with_word("indeed")
    assert form_problem(pair(chosen=LONG, rejected=other), rules) == "nearly equal answers"
    assert form_problem(pair(chosen=LONG, rejected=other, source="revise"), rules) is None
    assert form_problem(pair(chosen=LONG, rejected=other, problem=PROBLEM), rules) is None
    assert form_problem(pair(chosen=LONG, rejected=other), Screen(max_answer_similarity=1)) is None


def test_the_same_words_nested_otherwise_are_other_answers() -> None:
    code = f"{LONG}\n```python\nfor item in things:\n    if item:\n        count(item)\n    show(item)\n```"
    outside = code.replace("    show(item)", "show(item)")
    assert form_problem(pair(chosen=code, rejected=outside), Screen()) is None
    assert form_problem(pair(chosen=code, rejected=code + "\n"), Screen()) == "equal answers"


def test_a_left_out_step_is_a_difference() -> None:
    short = LONG.replace(", while the red part goes on in a straight line until it meets the ground or a cloud", "")
    assert not nearly_equal(LONG, short, 0.98)


def shared_in_order(words: list[str], others: list[str]) -> int:
    """The longest common subsequence, by the textbook's table: no alignment shares more words in order."""
    table = [[0] * (len(others) + 1) for _ in range(len(words) + 1)]
    for row, word in enumerate(words):
        for column, other in enumerate(others):
            table[row + 1][column + 1] = (
                table[row][column] + 1 if word == other else max(table[row][column + 1], table[row + 1][column])
            )
    return table[-1][-1]


def test_words_are_what_counts_and_not_their_characters() -> None:
    assert nearly_equal("sun sun blue blue sun", "sun", 0.3)  # 2 * 1 of 6 words, 3 of 21 characters
    assert not nearly_equal("sun sun blue blue sun", "sun", 0.34)


@given(st.lists(st.sampled_from(["sun", "sky", "air", "blue", "wave"]), min_size=1, max_size=30), st.data())
def test_nearly_equal_lies_between_difflib_and_the_best_alignment_where_no_word_is_decisive(
    words: list[str], data: st.DataObject
) -> None:
    others = list(words)
    for _ in range(data.draw(st.integers(0, 5))):
        others[data.draw(st.integers(0, len(others) - 1))] = data.draw(st.sampled_from(["sun", "light", "sea"]))
    if data.draw(st.booleans()):
        others = others[data.draw(st.integers(0, len(others) - 1)) :]
    # Trimming what both begin and end with may find more matches than difflib's greedy longest block, never fewer.
    least = SequenceMatcher(None, words, others, autojunk=False).ratio()
    most = 2 * shared_in_order(words, others) / (len(words) + len(others))
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95):
        said = nearly_equal(" ".join(words), " ".join(others), threshold)
        assert said or least <= threshold
        assert not said or most > threshold


@given(st.integers(0, 999), st.integers(0, 999))
def test_answers_with_different_numbers_are_different_answers(one: int, other: int) -> None:
    assert nearly_equal(with_word(str(one)), with_word(str(other)), 0.9) == (one == other)


def test_hostile_answers_take_no_time() -> None:
    first, second = "a b " * 12_000 + "x", "b a " * 12_000 + "y"
    started = time.perf_counter()
    assert not nearly_equal(first, second, 0.98)
    assert time.perf_counter() - started < 2


def test_lengths_are_capped_by_ratio_and_by_difference() -> None:
    rules = Screen(max_length_ratio=2, max_length_difference_characters=50)
    assert form_problem(pair(chosen="x" * 21, rejected="y" * 10), rules) == "length ratio"
    assert form_problem(pair(chosen="x" * 20, rejected="y" * 10), rules) is None
    assert form_problem(pair(chosen="x" * 100, rejected="y" * 151), rules) == "length difference"
    assert form_problem(pair(chosen="x" * 100, rejected="y" * 150), rules) is None


def test_numbers_and_signs_of_chinese_are_words_of_their_own() -> None:
    assert tokens("It's 1,234.5 km: 天空=蓝") == ["It's", "1,234.5", "km", ":", "天", "空", "=", "蓝"]
