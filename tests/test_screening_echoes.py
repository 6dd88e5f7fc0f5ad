"""Replies that repeat the template, or decline."""

from importlib import resources

import pytest
from screening_pairs import asked, pair

from limbeck.screening import refuses
from limbeck.screening.echoes import TemplateEcho
from limbeck.screening.screener import template_texts

TEMPLATES = TemplateEcho(template_texts())


@pytest.mark.parametrize(
    "text",
    [
        "<prompt>Why is the sky blue?</prompt> Because.",
        'Here it is: {"preferred": "Because.", "dispreferred": "So."}',
        '{"prompt": "Why is the sea blue?"}',
        "Preferred: because of scattering.",
        "**Preferred answer:** because of scattering.",
        "It just is, which is the dispreferred answer.",
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


def test_people_saw_no_template_sentences() -> None:
    sentence = "It reads like an honest attempt and never says that it is the worse one."
    assert TEMPLATES.reason(pair(chosen=sentence, source="human")) is None


def test_every_template_of_the_teacher_is_known() -> None:
    files = (resources.files("limbeck.teachers") / "templates").iterdir()
    assert len(template_texts()) == sum(file.name.endswith(".txt") for file in files) >= 3


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
