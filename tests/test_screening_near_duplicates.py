"""Near-duplicate prompts: what the index finds is what comparing each with each finds."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from screening_pairs import asked, pair

from limbeck.records import Message, PromptRow, user_prompt
from limbeck.screening.near_duplicates import (
    Fingerprint,
    NearDuplicates,
    fingerprint,
    jaccard,
    rows_a_band,
    shingles,
)

LONG = "Explain to a child of ten years in a few plain words how it comes that the sky is blue and not green"


def near(first: PromptRow, second: PromptRow, threshold: float = 0.7, same_figures: bool = True) -> bool:
    index = NearDuplicates(threshold, same_figures=same_figures)
    index.add(fingerprint(first))
    return index.found(fingerprint(second))


@given(
    st.text(alphabet="abc XY.,!?\n", max_size=60).filter(lambda text: text.upper() != text.lower()),
    st.sampled_from([str.upper, str.lower, str.swapcase]),
)
def test_case_space_and_punctuation_make_no_other_prompt(text: str, change: Callable[[str], str]) -> None:
    assert near(asked(text), asked("  " + change(text).replace(" ", " \n ") + " !"))


def test_one_exchanged_word_in_a_long_prompt_makes_a_near_duplicate_and_in_a_short_one_another_prompt() -> None:
    assert near(asked(LONG), asked(LONG.replace("few", "dozen")), same_figures=False)
    assert near(asked(LONG), asked(LONG + " please"))
    assert not near(asked("What is the capital of France?"), asked("What is the capital of Spain?"))


@pytest.mark.parametrize(
    ("first", "second"), [("12", "13"), ("3 + 4", "3 - 4"), ("two", "three"), ("5 of 6", "6 of 5"), ("²", "³")]
)
def test_prompts_whose_figures_differ_are_different_unless_figures_count_for_nothing(first: str, second: str) -> None:
    assert not near(asked(f"{LONG} {first}"), asked(f"{LONG} {second}"))
    assert near(asked(f"{LONG} {first}"), asked(f"{LONG} {first}"))
    assert near(asked(f"{LONG} {first}"), asked(f"{LONG} {second}"), same_figures=False)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("What does && do in C?", "What does || do in C?"),
        ("What does ! do in C?", "What does ? do in C?"),
        ("What does `*` do?", "What does `#` do?"),
        ("What does & do in C?", "What does && do in C?"),
        ("key @", "key &"),
        ("🙂", "🙃"),
        ("?!", "🙂"),
        ("?!", ""),
    ],
)
def test_prompts_that_differ_in_signs_alone_are_other_prompts(first: str, second: str) -> None:
    for same_figures in (True, False):
        assert not near(asked(first), asked(second), same_figures=same_figures)
        assert near(asked(first), asked(first), same_figures=same_figures) == bool(first)


def test_a_sign_more_is_no_other_prompt() -> None:
    assert near(asked("How do I bake bread?"), asked("How do I bake bread? 🙂"))
    assert near(asked("What is **bread** made of?"), asked("What is bread made of"))
    assert near(asked("- What is bread made of?"), asked('What is "bread" made of?'))


def test_a_reply_of_signs_alone_is_another_prompt_after_the_same_turns() -> None:
    def talk(last: str) -> PromptRow:
        return pair(prompt=(*user_prompt(LONG), Message(role="assistant", content="Was it clear?"), *user_prompt(last)))

    assert near(talk("👍"), talk("👍"))
    assert not near(talk("👍"), talk("👎"))


def test_a_name_exchanged_in_a_short_prompt_makes_another_and_in_a_long_one_the_same() -> None:
    short = "Tell me in one line what is the capital city of {}"
    assert not near(asked(short.format("France")), asked(short.format("Spain")))
    assert near(asked(short.format("France")), asked(short.format("france").upper()))
    assert near(asked(short.format("France")), asked(short.format("France") + " Please"))
    assert near(asked(short.format("France")), asked(short.format("Spain")), same_figures=False)
    assert near(asked(f"{LONG} to Anna"), asked(f"{LONG} to Otto"))


def test_the_same_question_after_other_turns_and_another_question_after_the_same_turns_are_other_prompts() -> None:
    def talk(history: str, last: str) -> PromptRow:
        reply = Message(role="assistant", content=history[::-1])
        return pair(prompt=(*user_prompt(history), reply, *user_prompt(last)))

    assert near(talk(LONG, "Go on"), talk(LONG, "go on!"))
    assert not near(talk(LONG, "Go on"), talk(LONG, "Stop it"))
    assert not near(talk(LONG, "Go on"), talk("Tell me a tale of a fox and a hen who meet in the wood", "Go on"))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.7, 0.9]))
def test_the_index_finds_what_comparing_with_each_finds(seed: int, threshold: float) -> None:
    draw = random.Random(seed)
    base = [draw.choice("abcdefghijklmnop") for _ in range(60)]
    prompts: list[Fingerprint] = []
    for _ in range(20):
        words = list(base)
        for _ in range(draw.randrange(12)):
            words[draw.randrange(60)] = draw.choice("qrstuvw")
        prompts.append(Fingerprint(shingles(words), shingles(words), ()))
    index = NearDuplicates(threshold, same_figures=True)
    for place, prompt in enumerate(prompts):
        # 0.1 % of the pairs at the threshold may be missed, so those a little above it are what must be found.
        likeness = max((jaccard(prompt.whole, other.whole) for other in prompts[:place]), default=0.0)
        if likeness < threshold:
            assert not index.found(prompt)
        elif likeness > threshold + 0.1:
            assert index.found(prompt)
        index.add(prompt)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
def test_bands_miss_at_most_one_in_a_thousand_at_the_threshold_and_no_wider_band_would_do(threshold: float) -> None:
    def missed(rows: int) -> float:
        return (1 - threshold**rows) ** (128 // rows)

    rows = rows_a_band(threshold)
    assert missed(rows) <= 0.001
    assert rows == 32 or all(missed(more) > 0.001 for more in range(rows + 1, 33))


def test_jaccard_is_the_shared_part_of_all() -> None:
    first, second = shingles(["a", "b", "c", "d"]), shingles(["b", "c", "d", "e"])  # abc bcd | bcd cde
    assert jaccard(first, second) == pytest.approx(1 / 3)
