"""Screening as pairs come in: what is remembered, what is compared with what, and what is exchanged."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from screening_pairs import PROBLEM, asked, held, pair, says_four

from limbeck import tasks
from limbeck.likeness import SAME_PROBLEM, EvaluationPrompts
from limbeck.recipe.pairs import Screen
from limbeck.records import Pair, PromptRow
from limbeck.screening import HeldOut, Screening
from limbeck.screening.semantic import Vectors

LONG = "Explain to a child in plain words how it comes that the sky is blue at noon and that it is red at dusk"
NEAR = LONG + " please"
LEAK = "Say how the plants that live in dry places save {} drops of the rain that falls there once a year"
_TOPICS = ("bread", "plane", "sleep")


def topics(texts: Sequence[str]) -> Vectors:
    """A stand-in for an encoder that knows three topics: -> [N, 4]."""
    rows = np.zeros((len(texts), 4), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        row[next((place for place, topic in enumerate(_TOPICS) if topic in text), 3)] = 1
    return rows


def screening(*held_out: PromptRow, with_topics: bool = False, **rules: Any) -> Screening:
    settings, embedder = Screen(**rules), topics if with_topics else None
    return Screening(settings, HeldOut(EvaluationPrompts(held_out), settings, embedder), says_four, embedder)


def written(text: str, **changes: Any) -> Pair:
    """A pair on a prompt that a teacher wrote."""
    return asked(text, source="few_shot", **changes)


@pytest.mark.parametrize("kind", ["few_shot", "rolling"])
def test_near_duplicates_are_sought_among_prompts_that_a_teacher_wrote(kind: str) -> None:
    desk = screening()
    assert desk.reason(asked(LONG, source=kind)) is None
    assert desk.reason(asked(NEAR, source=kind)) == "near-duplicate prompt: words"


@pytest.mark.parametrize("kind", ["human", "random", "zero_shot", "revise", "on_policy", "contrast"])
def test_prompts_of_people_and_tasks_may_resemble_each_other_whoever_answered_them(kind: str) -> None:
    desk = screening()
    reasons = [desk.reason(asked(text, source=kind)) for text in (LONG, NEAR, LONG)]
    assert reasons == [None, None, "duplicate prompt"]
    assert desk.reason(written(NEAR + "!")) is None  # it resembles what others wrote, not what a teacher did


def test_the_evaluation_is_compared_with_every_pair_in_nearly_the_same_words_whatever_the_figures() -> None:
    reason = "overlap with evaluation: nearly the same words"
    for words in ("few", "4"):
        assert screening(held(LEAK.format("3"))).reason(asked(LEAK.format(words))) == reason
        assert screening(held(LEAK.format("3"))).reason(asked(LEAK.format(words), source="human")) == reason
    assert screening(held("What is 3 + 4?")).reason(asked("What is 3 + 5?")) is None


def test_problems_are_compared_by_content_and_never_by_their_wording() -> None:
    wording = f"{LONG} What is 2+2?"
    right = {"chosen": "so #### 4", "rejected": "so #### 5"}
    other = PROBLEM.model_copy(update={"content": "4"})
    desk = screening(held(f"{LONG} What is two and two", PROBLEM.model_copy(update={"content": "x"})), with_topics=True)
    assert desk.reason(asked(wording, problem=PROBLEM, **right)) is None
    assert desk.reason(asked(f"{wording} ", problem=other, **right)) is None
    assert desk.reason(asked("said otherwise", problem=other, **right)) == "duplicate prompt"


PROBLEMS = [row for rows in tasks.draw_splits({"test": 60, "transfer": 30}, seed=1).values() for row in rows]


@pytest.mark.parametrize("said", ["Please: {}", "{}!", "**{}**", "Here is one for you. {} Thank you"])
def test_a_held_out_problem_said_as_free_text_is_found_with_other_words_and_signs_around_it(said: str) -> None:
    desk = screening(*PROBLEMS)
    reasons = {desk.reason(written(said.format(row.prompt[0].content.strip()))) for row in PROBLEMS}
    assert reasons <= {SAME_PROBLEM, "overlap with evaluation: nearly the same problem"}


def test_a_held_out_problem_in_a_few_other_words_is_found_by_its_figures_and_content() -> None:
    legs = "Your task is to count how many legs there are in total. Now, how many legs does a flock of {} geckos have?"
    desk = screening(held(legs.format(7), PROBLEM.model_copy(update={"content": "legs: 7 gecko"})))
    near = "overlap with evaluation: nearly the same problem"
    assert desk.reason(written(legs.format(7).replace("a flock of ", "a herd of "))) == near
    assert desk.reason(written(legs.format(8))) is None
    assert desk.reason(written(legs.format(7).replace("geckos", "crabs"))) is None


def test_other_problems_in_the_wording_of_held_out_ones_are_kept() -> None:
    desk = screening(*PROBLEMS)
    held_out = {row.problem.content for row in PROBLEMS if row.problem}
    pool = tasks.draw_splits({"pool": 150}, seed=2)["pool"]
    others = [row for row in pool if row.problem and row.problem.content not in held_out]
    reasons = {row.problem.family: desk.reason(written(row.prompt[0].content)) for row in others if row.problem}
    assert len(reasons) > 5
    assert set(reasons.values()) <= {None, "near-duplicate prompt: words"}


def test_prompts_of_one_meaning_are_near_duplicates_where_there_is_an_embedder() -> None:
    bake, make = written("How do I bake bread?"), written("Ways to make bread at home")
    other = written("Why do planes fly?")
    assert [screening().reason(row) for row in (bake, make)] == [None, None]
    desk = screening(with_topics=True)
    assert [desk.reason(row) for row in (bake, make, other)] == [None, "near-duplicate prompt: meaning", None]
    assert desk.reason(written("Ways to make 7 loaves of bread")) is None  # another number is another question
    assert desk.reason(asked("Why do people bake bread?", source="human")) is None
    leak = screening(held("Ways to make 2 loaves of bread"), with_topics=True)
    assert leak.reason(bake) == "overlap with evaluation: nearly the same meaning"


def test_preparing_together_changes_no_reason() -> None:
    rows = [written(text) for text in ("a bread", "b plane", "c bread", "d sleep", "e other", "f other", "g plane")]
    prepared = screening(with_topics=True)
    prepared.prepare(rows)
    one_by_one = screening(with_topics=True)
    assert [prepared.reason(row) for row in rows] == [one_by_one.reason(row) for row in rows]


@given(
    st.lists(st.sampled_from(["good", "good ", "GOOD", "other words"]), max_size=8), st.lists(st.booleans(), min_size=8)
)
def test_a_dropped_pair_never_displaces_a_good_one(texts: list[str], faulty: list[bool]) -> None:
    rows = [asked(text, chosen="" if bad else "Fine.") for text, bad in zip(texts, faulty, strict=False)]
    alone = [row for row in rows if row.chosen]
    reasons = list(map(screening().reason, rows))
    kept = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    assert kept == [row for row, reason in zip(alone, map(screening().reason, alone), strict=True) if reason is None]
    assert len(kept) == len({row.prompt[0].content.strip().lower() for row in alone})


def test_one_evaluation_serves_several_kinds() -> None:
    held_out = HeldOut(EvaluationPrompts([held(LEAK.format("3"))]), Screen())
    for _ in range(2):
        desk = Screening(Screen(), held_out, says_four)
        assert desk.reason(asked("Why do planes fly?")) is None
        assert desk.reason(asked(LEAK.format("4"))) == "overlap with evaluation: nearly the same words"


def test_answers_are_exchanged_where_the_scorer_says_the_opposite_and_dropped_where_it_prefers_none() -> None:
    opposite = pair(problem=PROBLEM, chosen="so #### 5", rejected="so #### 4", scores={"margin": -1.5, "helpful": 2.0})
    judged = screening(on_verifier_disagreement="swap").judge(opposite)
    assert (judged.reason, judged.swapped, judged.pair.swapped) == (None, True, True)
    assert (judged.pair.chosen, judged.pair.rejected) == ("so #### 4", "so #### 5")
    assert judged.pair.scores == {"margin": 1.5, "helpful": 2.0}
    wrong = pair(problem=PROBLEM, chosen="so #### 5", rejected="so #### 6")
    right = pair(problem=PROBLEM, chosen="so #### 4", rejected="yes #### 4")
    desk = screening(on_verifier_disagreement="swap")
    assert [desk.reason(row) for row in (wrong, right)] == [
        "verifier: the chosen is wrong",
        "verifier: the rejected is right",
    ]
    assert screening().reason(opposite) == "verifier: the chosen is wrong"
    assert screening(on_verifier_disagreement="keep").judge(opposite).pair == opposite


def test_an_exchanged_pair_is_screened_as_it_will_be_trained_on() -> None:
    refused = pair(problem=PROBLEM, chosen="so #### 5", rejected="I'm sorry, I can't help. #### 4")
    assert screening().reason(refused) == "verifier: the chosen is wrong"
    assert screening(on_verifier_disagreement="swap").reason(refused) == "refusal (chosen)"


@pytest.mark.parametrize(
    ("margin", "why"),
    [(0.5, None), (3.0, None), (0.49, "margin too small"), (-7.0, "margin too small"), (3.01, "margin too large"),
     (float("nan"), "margin too small"), (None, None)],
)  # fmt: skip
def test_a_judges_margin_has_to_lie_in_the_band(margin: float | None, why: str | None) -> None:
    row: Pair = pair(scores={} if margin is None else {"margin": margin})
    assert screening(margin_band=(0.5, 3.0)).reason(row) == why
    assert screening().reason(row) is None


def test_a_band_upside_down_is_refused() -> None:
    with pytest.raises(ValueError, match="lowest margin first"):
        Screen(margin_band=(3, 1))
