"""Likeness: which prompts are the same, which answers differ, and what of a training set occurs in the evaluation."""

from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.likeness import (
    SAME_PROBLEM,
    SAME_PROMPT,
    SAME_WORDS,
    EvaluationPrompts,
    NearDuplicates,
    normalised,
    same_answer,
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


def test_whatever_is_evaluated_is_found_by_its_whole_and_only_free_text_by_thirteen_words() -> None:
    other = PROBLEM.model_copy(update={"content": "3+3"})
    held = EvaluationPrompts([row(f"{LONG} is a task", PROBLEM), row("Free: " + LONG.replace("one", "1"))])
    assert held.overlap(row("in other words", PROBLEM)) == SAME_PROBLEM
    assert held.overlap(row(f"{LONG}  IS a task")) == SAME_PROMPT
    assert held.overlap(row(f"{LONG} is another")) == SAME_WORDS  # "two" to "fourteen", of the free text
    assert held.overlap(row(f"{LONG} is another", other)) is None
    assert EvaluationPrompts([row(f"{LONG} is a task", PROBLEM)]).overlap(row(f"{LONG} is another")) is None


def test_a_text_with_one_word_exchanged_is_nearly_the_same_and_another_is_not() -> None:
    near = NearDuplicates(0.7)
    text = "a farmer has seven hens and four cows in the yard how many legs are there to count"
    near.add("farm", text)
    assert near.find(text) == "farm"
    assert near.find(text.replace("to count", "to see?")) == "farm"
    assert near.find("A FARMER has seven hens, and four cows, in the yard: how many legs are there to count!") == "farm"
    assert near.find(" ".join(reversed(text.split()))) is None
    assert near.find("Which weekday falls 117 days after a Wednesday?") is None


def test_the_most_similar_text_is_named_and_short_texts_are_compared_whole() -> None:
    near = NearDuplicates(0.5)
    near.add("b", "one two three four five six seven eight")
    near.add("a", "one two three four five six seven nine")
    assert near.find("one two three four five six seven eight") == "b"
    near.add("short", "Go on")
    assert (near.find("go  on!"), near.find("go")) == ("short", None)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.lists(st.sampled_from("abcd"), max_size=12))
@settings(max_examples=60)
def test_what_is_found_reaches_the_threshold_in_the_slow_obvious_form(first: list[str], second: list[str]) -> None:
    near = NearDuplicates(0.6)
    near.add("first", " ".join(first))

    def runs(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[at : at + 3]) for at in range(len(words) - 2)} or {tuple(words)}

    alike = len(runs(first) & runs(second)) / len(runs(first) | runs(second))
    found = near.find(" ".join(second))
    assert found is None or alike >= 0.6
    assert found == "first" or alike < 1  # what is the same is never missed
