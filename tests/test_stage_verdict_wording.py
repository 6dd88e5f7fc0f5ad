"""The headline: what it claims, what it refuses to claim, and what qualifies it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verdict_files import recipe

from limbeck.records import Estimate
from limbeck.records.verdict import Comparison, JudgeCard, ModelScore
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
        {"win_rate": estimate(0.52, 0.49, 0.55)},  # by prompts it is clear, by replies it is not
    ],
)
def test_nothing_improved_where_p_the_interval_or_the_wins_do_not_say_so(changed: dict[str, Any]) -> None:
    sentence = said(arm(**changed))
    assert "a, did not clearly improve on SFT" in sentence
    assert "; it takes a true win rate 4.2 points from 50 % to be seen here four times out of five" in sentence


def test_what_an_arm_lost_on_families_never_trained_on_is_told_beside_what_it_gained() -> None:
    worse = {"difference": estimate(-0.15, -0.25, -0.07, 60), "wins": 0, "losses": 9, "ties": 51,
             "win_rate": estimate(0.42, 0.37, 0.47), "split": "transfer"}  # fmt: skip
    gained = [arm("a", "verifier"), arm("b", "verifier")]
    sentence = said(*gained, arm("a", "verifier", **worse))
    assert "a, improved on SFT" in sentence
    assert sentence.endswith("; worse than SFT on families never trained on: a (-15.0 points [-25.0, -7.0], n = 60).")
    unclear = worse | {"p_value_holm": 0.2}
    assert "never trained on" not in said(*gained, arm("a", "verifier", **unclear))
    base = arm("base", "verifier", **worse)
    assert "never trained on" not in said(*gained, base)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1), st.floats(-1, 1), st.floats(0, 1), st.integers(0, 50), st.integers(0, 50))
def test_improved_is_said_exactly_where_all_figures_agree(
    p: float, low: float, width: float, won: int, lost: int
) -> None:
    rate = estimate(0.6, 0.55, 0.65) if won > lost else estimate(0.4, 0.35, 0.45)
    found = arm(p_value_holm=p, difference=estimate(low + width / 2, low, low + width), wins=won, ties=1, losses=lost,
                win_rate=rate)  # fmt: skip
    assert ("improved on SFT" in said(found)) is (p < 0.05 and low > 0 and won > lost)
    assert ("did worse than SFT" in said(found)) is (p < 0.05 and low + width < 0 and won < lost)


def test_what_it_takes_to_be_seen_is_said_in_the_judges_unit() -> None:
    exact = said(arm(judge="verifier", p_value_holm=0.5))
    assert "; it takes a true difference of 3.1 points to be seen here four times out of five" in exact
    assert "to be seen" not in said(arm())
    nothing = said(arm(p_value_holm=0.5, minimum_detectable_win_rate=None))
    assert "; too few prompts tell the two apart for any difference to be clear" in nothing


def test_where_a_tie_is_no_win_one_half_is_not_taken_for_no_difference() -> None:
    strict = {"evaluate": {"ties": "loss"}}
    few = arm(win_rate=estimate(0.3, 0.25, 0.35), wins=60, ties=120, losses=20)  # half of the rate would be 0.6
    assert "a, improved on SFT (win rate (a tie is no win) 30.0 % [25.0, 35.0], " in said(few, **strict)
    unclear = said(few.model_copy(update={"p_value_holm": 0.5}), **strict)
    assert "; it takes a true lead of 8.4 points of wins over losses to be seen here four times out of five" in unclear
    theirs = arm("sft", baseline="against", win_rate=estimate(0.3, 0.25, 0.35))
    assert "win rate against the given responses (a tie is no win): SFT 30.0 %" in said(few, theirs, **strict)


def test_an_interval_that_leaves_zero_out_is_not_left_alone_beside_a_p_value_that_does_not() -> None:
    few = arm(judge="verifier", difference=estimate(0.8, 0.6, 1.0, 5), p_value_holm=0.0625, wins=5, losses=0)
    assert "; not all of its figures agree (p = 0.062 after correction, 5 replies won and 0 lost)" in said(few)
    skewed = arm(p_value_holm=0.0004, difference=estimate(-0.1, -0.6, 0.4))
    assert "; not all of its figures agree (p < 0.001 after correction, 120 replies won and 80 lost)" in said(skewed)
    none = {"difference": estimate(0.0, -0.1, 0.1), "win_rate": estimate(0.5, 0.4, 0.6), "p_value_holm": 0.9}
    assert "figures agree" not in said(arm(**none))
    strict = arm(**none | {"win_rate": estimate(0.2, 0.1, 0.3)})  # half of the replies tie
    assert "figures agree" not in said(strict, evaluate={"ties": "loss"})
    assert "figures agree" not in said(arm())


def test_replies_that_no_judge_scored_stand_beside_those_that_count() -> None:
    assert "n = 200, 7 more unscored, judged by nemotron" in said(arm(unscored=7))


def test_a_win_of_length_alone_is_called_that_but_not_where_a_verifier_judges() -> None:
    even = {"length_controlled_win_rate": estimate(0.51, 0.47, 0.55)}
    assert "; at equal lengths that is not clear: the win rate would be 51.0 % [47.0, 55.0]" in said(arm(**even))
    assert "at equal lengths" not in said(arm(judge="verifier", **even))
    agreeing = said(arm(length_controlled_win_rate=estimate(0.58, 0.53, 0.63)))
    assert "win rate 60.0 % [55.0, 65.0], at equal lengths 58.0 % [53.0, 63.0], +0.40" in agreeing
    assert "that is not clear" not in agreeing
    assert "at equal lengths" not in said(arm(p_value_holm=0.5, **even))  # nothing was claimed


def test_a_win_that_is_a_loss_at_equal_lengths_is_told_as_such() -> None:
    turned = {"length_controlled_win_rate": estimate(0.4, 0.35, 0.45)}
    assert "; at equal lengths that is not clear: the win rate would be 40.0 % [35.0, 45.0]" in said(arm(**turned))
    lost = {"difference": estimate(-0.4, -0.7, -0.1), "win_rate": estimate(0.4, 0.35, 0.45), "wins": 80, "losses": 120}
    agreeing = said(arm(**lost, **turned))
    assert "at equal lengths 40.0 % [35.0, 45.0], -0.40" in agreeing
    assert "that is not clear" not in agreeing
    better = {"length_controlled_win_rate": estimate(0.6, 0.55, 0.65)}
    assert "the win rate would be 60.0 % [55.0, 65.0]" in said(arm(**lost, **better))


def test_arms_that_may_have_won_by_length_alone_are_counted_among_those_that_helped() -> None:
    even = {"length_controlled_win_rate": estimate(0.51, 0.47, 0.55)}
    clear = {"length_controlled_win_rate": estimate(0.58, 0.53, 0.63)}
    assert "; 2 (1 of them not clearly at equal lengths) of 3 arms helped, 0 harmed." in said(
        arm("a", **clear), arm("b", **even), arm("c", p_value_holm=0.5, **even)
    )
    assert "; 1 of 2 arms helped, 0 harmed." in said(arm("a", **clear), arm("b", p_value_holm=0.5, **even))


def test_a_judge_that_may_be_guessing_is_named() -> None:
    card = JudgeCard(judge="nemotron", about="x", accuracy=estimate(0.604, 0.463, 0.73, 48))
    told = "; nemotron itself, right on 60.4 % [46.3, 73.0] of 48 held-out pairs, is not clearly better than chance."
    assert told in said(arm(), cards=(card,))


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


def test_a_judge_is_set_against_length_pair_by_pair_where_its_card_is_too() -> None:
    for accuracy, low, weak in ((estimate(0.72, 0.65, 0.79), -0.01, True), (estimate(0.62, 0.55, 0.69), 0.01, False)):
        card = JudgeCard(
            judge="local", about="x", accuracy=accuracy, longer_is_chosen=estimate(0.58, 0.5, 0.66),
            beyond_longer=estimate(0.1, low, 0.2),
        )  # fmt: skip
        assert ("is not clearly above that of choosing the longer" in said(arm(judge="local"), cards=(card,))) == weak


def test_the_best_arm_by_a_reward_model_is_the_one_that_wins_most_and_all_are_counted() -> None:
    far = arm("far", difference=estimate(0.9, 0.5, 1.3), wins=110, losses=90)
    often = arm("often", wins=130, losses=70)
    low = estimate(0.35, 0.3, 0.4)
    worse = arm("worse", difference=estimate(-0.4, -0.7, -0.1), win_rate=low, wins=70, losses=130)
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


def test_where_a_judge_could_score_nothing_that_is_what_is_said() -> None:
    assert say_verdict([], [], recipe(("a",), ("nemotron",)), cost_usd=3) == (
        "No arm could be compared with SFT by nemotron; the teacher cost $3.00."
    )
    assert say_verdict([], [], recipe((), ("nemotron",)), cost_usd=3) == (
        "No comparison could be made by nemotron; the teacher cost $3.00."
    )
    scores: list[ModelScore] = []
    assert say_verdict(scores, [], recipe()) == "SFT was not measured; no arm could be compared with SFT by verifier."


def test_an_arm_that_could_not_be_compared_is_named() -> None:
    sentence = say_verdict([], [arm("a")], recipe(("a", "lost"), ("nemotron",)))
    assert sentence.startswith("The best of 1 DPO arm, a, improved on SFT")
    assert "; not compared, since no reply is scored beside SFT's: lost" in sentence
