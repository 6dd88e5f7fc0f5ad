"""Alarms over replies: echoes of the prompt, cuts, loops and length, against the baseline and its noise."""

import pytest

from limbeck.diagnosis import Answered, echoes_prompt, prompt_echo_rate, reply_alarms
from limbeck.recipe.alarms import Alarms
from limbeck.records import FinishReason, Reply
from limbeck.records.alarms import Alarm

PROMPT = "A train leaves at nine with forty people on board, and twelve of them get off at the mill. How many are left?"
GOOD = "Forty people less twelve are twenty-eight, so that many are left."


@pytest.mark.parametrize(
    "reply",
    [
        PROMPT,
        f"{PROMPT} I do not know.",
        "So: a train leaves at nine with forty people on board, and twelve of them get off at the mill. Yes.",
        "Twenty-eight.\nUser: And how many are left after the next stop?",
        "Twenty-eight.<|im_start|>user\nAnd then?",
        "Question: A bus leaves at ten with thirty people on board. How many get off?",
    ],
)
def test_a_reply_that_repeats_or_goes_on_with_its_prompt_is_an_echo(reply: str) -> None:
    assert echoes_prompt(PROMPT, reply)


@pytest.mark.parametrize(
    ("prompt", "reply"),
    [
        (PROMPT, GOOD),
        (PROMPT, "At the mill twelve of them get off, and forty people on board less twelve are twenty-eight people."),
        ("Say: hello there my old friend of mine", "hello there my old friend of mine"),  # short: that is the answer
        ("Hello!", "Hello! How can I help?"),
        ("Write a dialogue.\nUser: hi", "User: hi\nAssistant: hello to you"),
        (PROMPT, ""),
    ],
)
def test_an_answer_in_the_prompts_words_is_none(prompt: str, reply: str) -> None:
    assert not echoes_prompt(prompt, reply)


def answers(*texts: str, finish: FinishReason = "stop") -> dict[tuple[str, int], Answered]:
    return {
        (f"p{at}", 0): Answered(
            PROMPT, Reply(prompt_id=f"p{at}", text=text, finish_reason=finish, num_tokens=None), GOOD
        )
        for at, text in enumerate(texts)
    }


def alarms(own: dict[tuple[str, int], Answered], baseline: dict[tuple[str, int], Answered]) -> list[Alarm]:
    return reply_alarms("evaluate/arm", own, baseline, Alarms(), baseline_name="sft", seed=1)


def test_the_rate_is_a_share_of_replies_and_none_where_there_are_none() -> None:
    assert prompt_echo_rate(answers(PROMPT, GOOD, GOOD, GOOD).values()) == 0.25
    assert prompt_echo_rate([]) is None


def test_a_model_against_itself_raises_no_alarm_however_bad_it_is() -> None:
    bad = answers(*[PROMPT] * 20, finish="length")
    assert alarms(bad, bad) == []


def test_echoes_that_the_baseline_had_not_are_an_alarm_with_both_rates() -> None:
    (found,) = alarms(answers(*[PROMPT] * 6, *[GOOD] * 94), answers(*[GOOD] * 100))
    assert (found.field, found.value, found.threshold) == ("alarms.max_prompt_echo_rise", pytest.approx(0.06), 0.02)
    assert "6.0%, sft's 0.0%; a rise of 6.0 points [" in found.sentence
    assert "over 100 prompts, threshold 2." in found.sentence


def test_one_echo_among_few_prompts_is_noise() -> None:
    assert alarms(answers(PROMPT, *[GOOD] * 19), answers(*[GOOD] * 20)) == []  # 5 points, and the interval starts at 0


def test_replies_cut_at_the_limit_are_an_alarm() -> None:
    own = answers(*[GOOD] * 30) | {
        (f"p{at}", 0): Answered(PROMPT, Reply(prompt_id=f"p{at}", text=GOOD, finish_reason="length", num_tokens=200))
        for at in range(8)
    }
    assert [alarm.field for alarm in alarms(own, answers(*[GOOD] * 30))] == ["alarms.max_truncation_rise"]


def test_loops_are_an_alarm_and_so_is_the_length_they_bring() -> None:
    found = alarms(answers(*[f"{GOOD} {GOOD} {GOOD}"] * 20), answers(*[GOOD] * 20))
    assert [alarm.field for alarm in found] == ["alarms.max_repetition_rise", "alarms.max_length_factor"]
    assert found[1].value == pytest.approx((3 * len(GOOD) + 2) / len(GOOD))
    assert f"{found[1].value:.2f} times as long as the data's own chosen responses" in found[1].sentence


def test_a_model_that_falls_silent_is_an_alarm_and_one_that_says_nothing_at_all() -> None:
    for silent in (18, 20):
        (found,) = alarms(answers(*[""] * silent, *[GOOD] * (20 - silent)), answers(*[GOOD] * 20))
        assert found.field == "alarms.max_length_factor"
        assert f"; {silent} of 20 are empty" in found.sentence
    assert alarms(answers("", *[GOOD] * 19), answers(*[GOOD] * 20)) == []  # one reply of twenty is none


def test_replies_that_shrink_are_an_alarm_whatever_else_is_empty() -> None:
    found = alarms(answers("28.", *["Yes, 28."] * 19, ""), answers(*[GOOD] * 21))
    assert [(alarm.field, alarm.threshold) for alarm in found] == [("alarms.max_length_factor", pytest.approx(1 / 1.5))]
    assert "shorter than sft's" in found[0].sentence


def test_samples_of_one_prompt_are_one_piece_of_evidence() -> None:
    reply = Reply(prompt_id="p0", text=PROMPT, finish_reason="stop", num_tokens=None)
    own = answers(*[GOOD] * 9) | {("p0", sample): Answered(PROMPT, reply) for sample in range(10)}
    good = Reply(prompt_id="p0", text=GOOD, finish_reason="stop", num_tokens=None)
    baseline = answers(*[GOOD] * 9) | {("p0", sample): Answered(PROMPT, good) for sample in range(10)}
    assert alarms(own, baseline) == []  # ten echoes, of one prompt of nine
