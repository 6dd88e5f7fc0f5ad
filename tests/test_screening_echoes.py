"""Replies that repeat the template, or decline."""

import pytest
from screening_pairs import asked, pair

from limbeck.screening import refuses
from limbeck.screening.echoes import TemplateEcho
from limbeck.screening.screener import template_texts
from limbeck.teachers import RequestKind
from limbeck.teachers.template_files import PACKAGED, PLACES

TEMPLATES = TemplateEcho(template_texts())


@pytest.mark.parametrize(
    "text",
    [
        "<prompt>Why is the sky blue?</prompt> Because.",
        'Here it is: {"preferred": "Because.", "dispreferred": "So."}',
        '{"prompt": "Why is the sea blue?"}',
        "Preferred: because of scattering.",
        "**Preferred answer:** because of scattering.",
        "Dispreferred: it just is.",
        '{"revised": "Because of scattering."}',
        "This answer is helpful, correct and safe; it clearly answers what was asked.",
        "It reads like an honest attempt and never says that it is the worse one.",
    ],
)
def test_tags_keys_and_sentences_of_the_template_are_found_on_either_side(text: str) -> None:
    assert TEMPLATES.reason(pair(chosen=text)) == "template echo (chosen)"
    assert TEMPLATES.reason(pair(rejected=text)) == "template echo (rejected)"
    assert TEMPLATES.reason(pair(rejected=text, source="on_policy")) is None


@pytest.mark.parametrize(
    "text",
    [
        "Put the text between <p> and </p>, for example.",
        "My preferred colour is blue, and I prefer it to red: it is calm.",
        "Set `prompt` to a string.",
        "A helpful, correct and safe answer needs no more words than these.",
        "Use plain words that a small child can follow.",
    ],
)
def test_what_merely_resembles_the_template_is_kept(text: str) -> None:
    assert TEMPLATES.reason(pair(chosen=text, rejected=text)) is None


def test_what_the_prompt_itself_contains_may_be_said_again() -> None:
    prompt = 'What does "dispreferred": mean, and where does <prompt> end?'
    assert TEMPLATES.reason(asked(prompt, chosen='It is closed; "dispreferred": is a key, <prompt> a tag.')) is None
    sentence = "It reads like an honest attempt and never says that it is the worse one."
    assert TEMPLATES.reason(asked(f"Make shorter: {sentence}", chosen=sentence)) is None


@pytest.mark.parametrize("source", ["human", "on_policy", "contrast"])
def test_who_saw_no_template_repeats_none(source: str) -> None:
    sentence = "It reads like an honest attempt and never says that it is the worse one."
    for text in (sentence, "Preferred: the first.", "<prompt>Why?</prompt>", '{"prompt": "Why?"}'):
        assert TEMPLATES.reason(pair(chosen=text, rejected=text, source=source)) is None


def test_a_correction_may_repeat_no_template_but_the_students_own_reply_may() -> None:
    assert TEMPLATES.reason(pair(chosen='{"revised": "Because."}', source="revise")) == "template echo (chosen)"
    assert TEMPLATES.reason(pair(rejected='{"revised": "Because."}', source="revise")) is None


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Please revise this sentence: the cat it sits.", "Revised: The cat sits."),
        ("Show a chat as XML.", "<chat><prompt>Hi</prompt><reply>Hello</reply></chat>"),
        ("Give an example of the request's JSON.", '{"prompt": "x"}'),
        ("What is preference organisation in conversation?", "A dispreferred response comes late, with a reason."),
    ],
)
def test_a_good_answer_in_the_form_that_was_asked_for_is_kept(prompt: str, text: str) -> None:
    assert TEMPLATES.reason(asked(prompt, chosen=text, rejected=text)) is None


@pytest.mark.parametrize("tag", ["prompt", "example", "weak_prompt", "reply", "context", "context_prompt"])
def test_every_tag_that_data_is_put_in_is_known(tag: str) -> None:
    assert TEMPLATES.reason(pair(chosen=f"Because. </{tag}>")) == "template echo (chosen)"
    assert TemplateEcho().reason(pair(chosen=f"Because. </{tag}>")) is None


@pytest.mark.parametrize("kind", PLACES)
def test_every_template_of_the_teacher_is_known(kind: RequestKind) -> None:
    template = PACKAGED.of(kind)
    sentences = [line for line in template.system.splitlines() if len(line.split()) > 12]
    assert sentences
    for sentence in sentences:
        assert TEMPLATES.reason(pair(chosen=sentence)) == "template echo (chosen)"


@pytest.mark.parametrize(
    "text",
    [
        "Oh, I'm sorry, I can't do that. It would be against our terms.",
        "I'm afraid I cannot help you with that.",
        "Well, I can’t help you there.",
        "As an AI, I don't have a house, so I cannot provide a description of it.",
    ],
)
def test_refusals_are_known_behind_a_lead_in(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "I’m sorry, I won’t keep you any longer. How are you?",
        "I’m sorry but I can’t agree with your statement. People with cancer differ.",
        "Sorry, I can’t understand that answer. Can you explain?",
        "I'm sorry, but I'm unable to come into work today, since I woke up with a migraine.",
        "As an AI assistant, I can generate the text for a chart, though I can't draw. Asia: 60 %.",
    ],
)
def test_an_excuse_or_a_question_is_no_refusal(text: str) -> None:
    assert not refuses(text)
