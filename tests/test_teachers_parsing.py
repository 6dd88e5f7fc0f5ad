"""The parser: exactly what was asked for, whatever a model puts around it, or a reason."""

import json
import time
from typing import get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from limbeck.api.json_replies import SENTENCES, ParseFailure, ParseReason
from limbeck.teachers.parsing import (
    MAX_ANSWER_CHARACTERS,
    ParsedPair,
    parse_pair,
    parse_plain,
    parse_prompt,
    parse_revised,
)

GOOD = '{"preferred": "4", "dispreferred": "5"}'


def test_white_space_around_the_object_is_allowed() -> None:
    assert parse_pair(f"\n  {GOOD}\n") == ParsedPair("4", "5")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty reply"),
        (f"```json\n{GOOD}\n{GOOD}\n```", "markdown"),
        ('```json\n{"preferred": "4"}\n```', "markdown"),
        ('```json\n{"preferred": "4", "dispreferred": "5"\n```', "markdown"),
        ('{"preferred": "4", "dispreferred": "5"', "not JSON"),
        ('{"preferred": "4", "dispreferred": NaN}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"preferred": ' + "[" * 100_000, "not JSON"),
        ('{"preferred": ' + "1" * 5000 + "}", "not JSON"),
        (f"[{GOOD}]", "not an object"),
        ('{"preferred": "4"}', "missing key"),
        ('{"preferred": "4", "dispreferred": "5", "why": "x"}', "extra key"),
        ('{"preferred": "4", "preferred": "6", "dispreferred": "5"}', "duplicate key"),
        ('{"preferred": 4, "dispreferred": "5"}', "not a string"),
        ('{"preferred": "4", "dispreferred": null}', "not a string"),
        ('{"preferred": "4", "dispreferred": " \\n"}', "empty answer"),
        ('{"preferred": "The answer", "dispreferred": " The\\n  answer"}', "equal answers"),
        ('{"preferred": "\\ud800", "dispreferred": "5"}', "not Unicode text"),
        (json.dumps({"preferred": "x" * (MAX_ANSWER_CHARACTERS + 1), "dispreferred": "5"}), "answer too long"),
        ("x" * 300_000, "reply too long"),
    ],
)
def test_what_was_not_asked_for_is_a_reason(text: str, reason: ParseReason) -> None:
    assert parse_pair(text) == ParseFailure(reason)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}```",
        f"Here you are: {GOOD}",
        f"{GOOD} I hope this helps",
        f"Here you are:\n\n```json\n{GOOD}\n```\nI hope this helps.",
        f"<think>Perhaps {GOOD}? {{No</think>\n{GOOD}",
        f"<think>\n\n</think>\n\n```json\n{GOOD}\n```",
        f"<think>After that I write </think> and answer.</think>{GOOD}",
        f"Perhaps {{4}} and {GOOD}?\n</think>\n\n{GOOD}",  # the template wrote the first tag
        f"Let me see. <think>Two and two.</think> {GOOD}",
        f"Let me see. <Thinking>Perhaps {GOOD}?</Thinking> {GOOD}",
        f"<|channel|>analysis<|message|>{GOOD}?<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}<|return|>",
        f"<|channel|>final <|constrain|>json<|message|>{GOOD}",
        f"analysisPerhaps {GOOD}?assistantfinal{GOOD}",  # the same without special tokens
        f"<|START_THINKING|>Perhaps {GOOD}?<|END_THINKING|><|START_RESPONSE|>{GOOD}<|END_RESPONSE|>",
        f"<|begin_of_thought|>{GOOD}?<|end_of_thought|>\n\n<|begin_of_solution|>{GOOD}<|end_of_solution|>",
        f"<|channel>thought\nPerhaps {GOOD}?<channel|>{GOOD}",
        f"<unused94>thought\nPerhaps {GOOD}?<unused95>{GOOD}",
        f"Perhaps {GOOD}?<|END_THINKING|>{GOOD}",
        f'<think budget="1/2" >Perhaps {GOOD}?</think >{GOOD}',
        f"<think/>{GOOD}",
    ],
)
def test_a_fence_thoughts_and_a_sentence_around_the_one_object_are_left_away(text: str) -> None:
    assert parse_pair(text) == ParsedPair("4", "5")


@pytest.mark.parametrize(
    "text",
    [
        f"First {GOOD}, or better {GOOD}",
        f'{GOOD} Or shorter: {{"preferred": "4',
        f"}} {GOOD}",
        f"As a set {{4, 5}}: {GOOD}",
        f"Here is the list: [{GOOD}]",
        f'["one", {GOOD}',
        f'{{"pair": {GOOD}',
        f"<think>Perhaps {GOOD}",
        f"<think>Perhaps {GOOD}</think> I cannot say.",
        f"<think>I end with </think>, so {GOOD}</think> I cannot say.",
        f"Perhaps {GOOD}</think> I cannot say.",
        f"{GOOD} <think>is that right",
        f"<think>Perhaps {GOOD}</thinking>{GOOD}",
        f"Hm. <think>Perhaps </thinking>{GOOD}",
        f"<|channel|>analysis<|message|>Perhaps {GOOD}<|end|>",
        f"<|channel|>analysis<|message|>Perhaps {GOOD}<|end|><|start|>assistant<|channel|>final<|message|>I cannot.",
        f"analysisPerhaps {GOOD}assistantfinalI cannot.",
        *(
            f"{begin}Perhaps {GOOD}{end} I cannot say."
            for begin, end in [
                ("<|START_THINKING|>", "<|END_THINKING|>"),
                ("<|begin_of_thought|>", "<|end_of_thought|>"),
                ("<|think|>", "<|/think|>"),
                ("<|think|>", ""),
                ("<|think>", "<think|>"),
                ("<think >", "</think >"),
                ("< think>", "</ think>"),
                ('<think mode="long">', "</think>"),
                ("<thinking\n  a='1/2'>", "</thinking\n>"),
                ("<thought_process>", "</thought_process>"),
                ("<chain-of-thought>", "</chain-of-thought>"),
                ("<self_reflections>", "</self_reflections>"),
                ("<thinking_start>", "<thinking_end>"),
                ("", "<|END_THINKING|>"),
                ("<|channel>thought\n", "<channel|>"),
                ("<unused94>thought\n", "<unused95>"),
                ("analysis", ""),
                ("\nassistantanalysis", ""),
            ]
        ),
        f"<|START_THINKING|>Perhaps </think>{GOOD}",
        'Here: {"preferred": "4"}',
        'Here: {"preferred": "4", "dispreferred": "5", "why": "x"}',
        'Here: {"preferred": "4", "preferred": "6", "dispreferred": "5"}',
        'Here: {"preferred": "4", "dispreferred": NaN}',
        "Here: {" + '"a": {' * 30_000,
        "{ } " * 40_000,
        "</think>" * 20_000,
        "<think>" * 20_000,
        "<think></thinking>" * 10_000,
        "<|channel|>" * 10_000 + " " * 80_000,
        "<think> </think>" * 10_000 + "{",
    ],
)
def test_an_object_that_may_be_a_draft_a_part_or_one_of_several_is_not_taken(text: str) -> None:
    assert parse_pair(text) == ParseFailure("not JSON")


@pytest.mark.parametrize(("one", "other"), [("2² = 4", "22 = 4"), ("IT", "it"), ("½", "1⁄2")])
def test_answers_that_differ_in_case_or_in_a_sign_are_a_pair(one: str, other: str) -> None:
    assert parse_pair(json.dumps({"preferred": one, "dispreferred": other})) == ParsedPair(one, other)


@given(st.text())
def test_no_text_makes_the_parser_raise(text: str) -> None:
    assert isinstance(parse_pair(text), ParsedPair | ParseFailure)
    assert isinstance(parse_prompt(text), str | ParseFailure)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.booleans())
def test_what_json_writes_is_read_back_unchanged(text: str, ascii_only: bool) -> None:
    reply = json.dumps({"preferred": f"a{text}", "dispreferred": "b"}, ensure_ascii=ascii_only)
    assert parse_pair(reply) == ParsedPair(f"a{text}", "b")


UNICODE = st.text(st.characters(exclude_categories=["Cs"]))
SENTENCE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}[],<>"), max_size=40)
THOUGHTS = UNICODE.filter(lambda text: "</think>" not in text)


@given(UNICODE, SENTENCE, SENTENCE, THOUGHTS, st.sampled_from(["", "```json\n", "```\n"]), st.booleans(), st.booleans())
def test_what_json_writes_is_read_back_unchanged_whatever_stands_around_it(
    text: str, before: str, after: str, thoughts: str, fence: str, thinks: bool, ascii_only: bool
) -> None:
    reply = json.dumps({"preferred": f"a{text}</think>{{}}", "dispreferred": "b"}, ensure_ascii=ascii_only)
    around = f"{before}\n{fence}{reply}\n{fence[:3]}{after}"
    wrapped = f"<think>{thoughts}</think>{around}" if thinks else around
    assert parse_pair(wrapped) == ParsedPair(f"a{text}</think>{{}}", "b")


@given(st.text('{}[]":,ab` \n<>/think'), st.text('{}[]":,ab` \n<>/think'))
def test_around_two_objects_nothing_makes_one_of_them_the_reply(before: str, after: str) -> None:
    assert isinstance(parse_pair(f"{before}{GOOD}{after}{GOOD}"), ParseFailure) or "</think>" in f"{before}{after}"


MARKS = [
    ("<think>", "</think>"),
    ("<Think>", "</THINK>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|think|>", "<|/think|>"),
    ('<thought_process depth="2">', "</thought_process >"),
    ("<|channel>thought\n", "<channel|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>analysis", "<|channel|> final <|constrain|>json<|message|>"),
]
PIECES = [*(mark for pair in MARKS for mark in pair), GOOD, '{"preferred": "6", "dispreferred": "7"}', "{", "}", "```",
          '"', "\\", ",", "[", "]", " ", "\n", "Perhaps", "final", "assistantfinal"]  # fmt: skip
DRAFTS = st.lists(st.one_of(st.sampled_from(PIECES), UNICODE), max_size=8).map("".join)


@given(st.sampled_from(MARKS), DRAFTS, st.one_of(st.just(GOOD), DRAFTS))
def test_thoughts_before_a_reply_never_change_what_is_read_however_they_are_marked(
    marks: tuple[str, str], thoughts: str, reply: str
) -> None:
    begin, end = marks
    way = "final" if "<|channel|>" in begin else end
    assume(way.lower() not in thoughts.lower())
    assume(not reply.lstrip().startswith("<|constrain|>"))
    assert parse_pair(f"\n{begin}{thoughts}{end}{reply}") == parse_pair(reply)


@given(st.sampled_from(MARKS), DRAFTS, SENTENCE, SENTENCE)
def test_no_draft_among_thoughts_is_taken_where_no_object_follows(
    marks: tuple[str, str], thoughts: str, before: str, after: str
) -> None:
    begin, end = marks
    assume((end if "<|channel|>" not in begin else "final") not in thoughts)
    assert isinstance(parse_pair(f"{before}{begin}{thoughts}{end}{after}"), ParseFailure)
    assert isinstance(parse_pair(f"{before}{begin}{thoughts}"), ParseFailure)


@pytest.mark.parametrize(
    ("begin", "end"), [*MARKS, ("analysisOne ", "assistantfinal"), ('<think a=\\"b\\">', "<think/>")]
)
def test_marks_in_the_values_of_an_object_are_read_as_they_are(begin: str, end: str) -> None:
    for said in (f"{begin}4?{end}4", f"{end}4", f"4{begin}", f"analysis{begin}"):
        reply = json.dumps({"preferred": said, "dispreferred": "5"})
        for around in (reply, f"Here: {reply} Done.", f"```json\n{reply}\n```", f"<think>4?</think>{reply}"):
            assert parse_pair(around) == ParsedPair(said, "5")


@pytest.mark.parametrize(
    "piece",
    ["<", "< ", "</", "<think", "<think ", "<think a='", "<think" + " " * 200, "<" + "a" * 40, "<" + "think" * 12,
     "analysisA", "<think|>", "<|begin_of_thought|>", "<think><|channel>", "<|channel|>final ", "<think>{</think>",
     "\n"],
)  # fmt: skip
@pytest.mark.parametrize("first", ["", "<think>a</think>"])
def test_no_long_reply_takes_long_to_read(first: str, piece: str) -> None:
    text = (first + piece * 200_000)[:200_000]
    begun = time.process_time()
    parse_pair(text)
    parse_plain(text)
    assert time.process_time() - begun < 5  # a tenth of that on an idle CPU; minutes where it grew with the square


def test_a_prompt_is_read_from_its_one_key_and_from_no_other() -> None:
    assert parse_prompt('{"prompt": "What is 2 + 2?"}') == "What is 2 + 2?"
    assert parse_prompt('{"prompt": "a", "answer": "b"}') == ParseFailure("extra key")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"revised": "Two and two is  5."}', "equal answers"),
        ('{"revised": ""}', "empty answer"),
        ('{"revised": ["4"]}', "not a string"),
        ('{"corrected": "4"}', "missing key"),
        ('{"revised": "4", "changes": "5 to 4"}', "extra key"),
        ('{"revised": "4", "revised": "4"}', "duplicate key"),
        ("```{}```", "markdown"),
        ("Two and two is 4.", "not JSON"),
        ('"4"', "not an object"),
        (json.dumps({"revised": "x" * (MAX_ANSWER_CHARACTERS + 1)}), "answer too long"),
    ],
)
def test_a_correction_that_is_none_is_a_reason(text: str, reason: ParseReason) -> None:
    assert parse_revised(text, "Two and two is 5.") == ParseFailure(reason)


def test_a_correction_is_read_from_its_one_key() -> None:
    assert parse_revised('{"revised": "Two and two is 4."}', "Two and two is 5.") == "Two and two is 4."


def test_a_plain_answer_is_taken_as_it_is() -> None:
    assert parse_plain(' {"preferred": "x"}\n') == '{"preferred": "x"}'
    assert parse_plain(" \n") == ParseFailure("empty answer")


@pytest.mark.parametrize(
    "said",
    [
        "<think>It is 4, or 5?</think>\n\nIt is 4.",
        "It is 4, or 5?\n</think>\n\nIt is 4.",  # where the chat template has opened the thoughts
        "[THINK]4?[/THINK]It is 4.",
        "<|channel|>analysis<|message|>4?<|end|><|start|>assistant<|channel|>final<|message|>It is 4.",
        "analysis4?assistantfinalIt is 4.",
        "<|START_THINKING|>4?<|END_THINKING|>It is 4.",
        "<|begin_of_thought|>4?<|end_of_thought|>\n\nIt is 4.",
        '<think mode="long">4?</think >It is 4.',
        "<thought_process>4?</thought_process>It is 4.",
        "<|channel>thought\n4?<channel|>It is 4.",
        "<unused94>thought\n4?<unused95>It is 4.",
        "4?<|end_of_thought|>It is 4.",
    ],
)
def test_thoughts_are_no_part_of_an_answer_in_words(said: str) -> None:
    assert parse_plain(said) == "It is 4."


@pytest.mark.parametrize(
    "said",
    ["<think>It is 4, or", " <thinking>\n4?</think> It is 4.", "<|START_THINKING|>4?</think> It is 4.",
     "<|think|>It is 4.", "<|channel>thought\nIt is 4, or", "\nanalysisIt is 4, or 5? It is 4."],
)  # fmt: skip
def test_thoughts_that_do_not_end_are_no_answer_in_words(said: str) -> None:
    assert parse_plain(said) == ParseFailure("endless thoughts")


@pytest.mark.parametrize(
    "said",
    ["Write <think> before a thought.", "<b>4</b> and <thought> is a tag", "</div> ends it",
     "<b>4</b>, as a<think b>c.", "Write <|START_THINKING|> before a thought.", "analysis of 4", "analysis: 4",
     "analysis", "AnalysisA", "The analysisA", "See <https://think.org/> or <me@reason.org>.", "<channel>4</channel>"],
)  # fmt: skip
def test_an_answer_in_words_about_marks_stands_as_it_is(said: str) -> None:
    assert parse_plain(said) == said


def test_an_answer_in_words_may_follow_long_thoughts_but_not_be_endless() -> None:
    assert parse_plain(f"<think>{'4? ' * 20_000}</think>4") == "4"
    assert parse_plain("4 " * 150_000) == ParseFailure("reply too long")


def test_every_reason_has_a_sentence_for_who_is_asked_again() -> None:
    assert set(SENTENCES) == set(get_args(ParseReason))
