"""The headline: what it claims, what it refuses to claim, and what qualifies it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verdict_files import recipe

from limbeck.records import Estimate
from limbeck.records_verdict import Comparison, JudgeCard, ModelScore
from limbeck.stages.verdict.wording import say_verdict


def estimate(at: float, low: float, high: float, n: int = 200) -> Estimate:
    return Estimate(estimate=at, low=low, high=high, n=n)


GAIN = {"difference": estimate(0.4, 0.1, 0.7), "win_rate": estimate(0.6, 0.55, 0.65), "wins": 120, "losses": 80}


def arm(candidate: str = "a", judge: str = "nemotron", **changed: Any) -> Comparison:
    figures = {"baseline": "sft", "split": "test", "ties": 0, "unscored": 0, "p_value": 0.001, "p_value_holm": 0.004,
               "minimum_detectable_difference": 0.031, "minimum_detectable_win_rate": 0.042} | GAIN  # fmt: skip
    return Comparison(candidate=candidate, judge=judge, **(figures | changed))


def said(*comparisons: Comparison, cards: tuple[JudgeCard, ...] = (), **sections: Any) -> str:
    judges = (comparisons[0].judge,)
    arms = tuple(dict.fromkeys(c.candidate for c in comparisons if c.candidate not in ("base", "sft")))
    return say_verdict([], comparisons, recipe(arms, judges, **sections), cards)


def test_a_gain_is_told_with_rate_interval_difference_prompts_and_judge() -> None:
    assert said(arm()) == (
        "The best of 1 DPO arm, a, improved on SFT (win rate 60.0 % [55.0, 65.0], +0.40 reward [+0.10, +0.70], "
        "n = 200, judged by nemotron)."
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"p_value_holm": 0.05},
        {"p_value": 0.001, "p_value_holm": 0.9},
        {"difference": estimate(0.4, 0.0, 0.8)},
        {"difference": estimate(0.4, -0.1, 0.9)},
        {"wins": 80, "losses": 120},  # wins fewer prompts, though by more
        {"wins": 100, "losses": 100},
    ],
)
def test_nothing_improved_where_p_the_interval_or_the_wins_do_not_say_so(changed: dict[str, Any]) -> None:
    sentence = said(arm(**changed))
    assert "a, did not clearly improve on SFT" in sentence
    assert "; a true win rate within 4.2 points of 50 % would mostly go unseen here" in sentence


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1), st.floats(-1, 1), st.floats(0, 1), st.integers(0, 50), st.integers(0, 50))
def test_improved_is_said_exactly_where_three_figures_agree(
    p: float, low: float, width: float, won: int, lost: int
) -> None:
    found = arm(p_value_holm=p, difference=estimate(low + width / 2, low, low + width), wins=won, ties=1, losses=lost)
    assert ("improved on SFT" in said(found)) is (p < 0.05 and low > 0 and won > lost)
    assert ("did worse than SFT" in said(found)) is (p < 0.05 and low + width < 0 and won < lost)


def test_what_could_not_have_been_seen_is_said_in_the_judges_unit() -> None:
    exact = said(arm(judge="verifier", p_value_holm=0.5))
    assert "; a true difference under 3.1 points would mostly go unseen here" in exact
    assert "unseen" not in said(arm())
    assert "unseen" not in said(arm(p_value_holm=0.5, minimum_detectable_win_rate=None))


def test_a_win_of_length_alone_is_called_that_but_not_where_a_verifier_judges() -> None:
    even = {"length_controlled_win_rate": estimate(0.51, 0.47, 0.55)}
    assert "; at equal lengths that is not clear: the win rate would be 51.0 % [47.0, 55.0]" in said(arm(**even))
    assert "at equal lengths" not in said(arm(judge="verifier", **even))
    assert "at equal lengths" not in said(arm(length_controlled_win_rate=estimate(0.58, 0.53, 0.63)))
    assert "at equal lengths" not in said(arm(p_value_holm=0.5, **even))  # nothing was claimed


def test_a_judge_no_better_than_length_and_one_nobody_measured_are_named() -> None:
    longer = estimate(0.58, 0.5, 0.66)
    weak = JudgeCard(judge="local", about="x", accuracy=estimate(0.62, 0.55, 0.69), longer_is_chosen=longer)
    assert (
        "the accuracy of local itself, 62.0 % [55.0, 69.0], is not clearly above that of choosing the longer "
        in said(arm(judge="local"), cards=(weak,))
    )
    good = weak.model_copy(update={"accuracy": estimate(0.72, 0.65, 0.79)})
    assert "; local itself is right on 72.0 % [65.0, 79.0] of 200 held-out pairs." in said(
        arm(judge="local"), cards=(good,)
    )
    unknown = JudgeCard(judge="nemotron", about="x")
    assert "; nemotron is a learned judge, and its accuracy was not measured here." in said(arm(), cards=(unknown,))
    exact = JudgeCard(judge="verifier", about="x")
    assert "judge" not in said(arm(judge="verifier"), cards=(exact,))


def test_the_best_arm_by_a_reward_model_is_the_one_that_wins_most_and_all_are_counted() -> None:
    far = arm("far", difference=estimate(0.9, 0.5, 1.3), wins=110, losses=90)
    often = arm("often", wins=130, losses=70)
    worse = arm("worse", difference=estimate(-0.4, -0.7, -0.1), wins=70, losses=130)
    sentence = said(far, often, worse)
    assert sentence.startswith("The best of 3 DPO arms, often, improved on SFT")
    assert "; 2 of 3 arms helped, 1 harmed" in sentence


def test_without_arms_sft_is_set_beside_the_base_model() -> None:
    base = arm("base", win_rate=estimate(0.2, 0.15, 0.25), wins=40, losses=160)
    assert said(base) == "SFT wins 80.0 % [75.0, 85.0] against the base model, n = 200, judged by nemotron."
    strict = said(base, evaluate={"ties": "loss"})
    assert strict == "SFT wins 80.0 % against the base model, n = 200, judged by nemotron."


def test_win_rates_against_given_responses_are_told_of_sft_and_the_best_arm() -> None:
    given_responses = {"baseline": "against", "win_rate": estimate(0.585, 0.56, 0.61)}
    sentence = said(arm(), arm("sft", **given_responses), arm(**given_responses), arm("base", **given_responses))
    assert sentence.endswith("; win rate against the given responses: SFT 58.5 % [56.0, 61.0], a 58.5 % [56.0, 61.0].")


def test_where_a_reward_model_could_score_nothing_nothing_is_claimed() -> None:
    assert say_verdict([], [], recipe(("a",), ("nemotron",))) == "No comparison could be made."
    scores: list[ModelScore] = []
    assert say_verdict(scores, [], recipe()) == "SFT was not measured."
