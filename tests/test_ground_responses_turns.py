"""Responses matched with prompts, and conversations turn by turn."""

import json
from pathlib import Path

import pytest
from street import write_lines

from limbeck.errors import InputError
from limbeck.likeness import SAME_WORDS, EvaluationPrompts
from limbeck.records import Message, PromptRow, user_prompt
from limbeck.responses import match, read_responses
from limbeck.turns import OWN_REPLY, continued, conversation_of, every_turn, turn_number


def row(name: str, *said: str, **more: tuple[str, ...]) -> PromptRow:
    turns = tuple(Message(role="assistant" if place % 2 else "user", content=text) for place, text in enumerate(said))
    return PromptRow(id=name, prompt=turns, source="own", **more)


def given(path: Path, *pairs: tuple[object, object]) -> Path:
    return write_lines(path, [{"prompt": prompt, "response": response} for prompt, response in pairs])


def test_prompts_and_responses_may_be_texts_or_messages(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    ask = [*talk, {"role": "user", "content": "Why?"}]
    path = given(tmp_path / "r.jsonl", ("Hello", "You."), (ask, [{"role": "assistant", "content": "So."}]))
    found = match([row("a", "Hello"), row("b", "Hi", "Yes?", "Why?")], read_responses(path))
    assert found.by_id == {"a": "You.", "b": "So."}
    assert (found.missing, found.repeated, found.extra) == ([], [], [])


def test_missing_repeated_and_extra_responses_are_named_and_the_first_counts(tmp_path: Path) -> None:
    path = given(tmp_path / "r.jsonl", ("One", "1"), ("Nobody's", "x"), ("One", "uno"), ("Three", "3"))
    found = match([row("a", "One"), row("b", "Two"), row("c", "Three")], read_responses(path))
    assert found.by_id == {"a": "1", "c": "3"}
    assert (found.missing, found.repeated, found.extra) == (["b"], [3], [2])


def test_two_rows_of_one_text_have_one_response(tmp_path: Path) -> None:
    found = match([row("a", "One"), row("b", "One")], read_responses(given(tmp_path / "r.jsonl", ("One", "1"))))
    assert found.by_id == {"a": "1", "b": "1"}


@pytest.mark.parametrize(
    ("asked", "answered", "matched"),
    [
        (["Say  it\n"], ["Say it"], {"a": "0"}),
        (["Say it", "Say  it"], ["Say it", "say it"], {"a": "0"}),  # the exact one is taken, so nothing is left
        (["Say  it", "Say   it"], ["Say it"], {}),  # whose is it?
        (["Say it"], ["Say  it", "Say   it"], {}),
        (["say it"], ["Say it"], {}),  # case is no white space
    ],
)
def test_white_space_may_differ_where_that_leaves_no_doubt(
    asked: list[str], answered: list[str], matched: dict[str, str], tmp_path: Path
) -> None:
    path = given(tmp_path / "r.jsonl", *((text, str(place)) for place, text in enumerate(answered)))
    assert match([row("ab"[n], text) for n, text in enumerate(asked)], read_responses(path)).by_id == matched


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"prompt": "Hi"}, "line 2: the field 'response' is missing"),
        ({"prompt": 3, "response": "x"}, "line 2: prompt should be a text, or a list of turns"),
        ({"prompt": "x", "response": []}, "line 2: response should be a text, or a list of turns"),
        ({"prompt": "x", "response": "\ud800"}, "line 2: response should be a text"),  # half of a surrogate pair
        ({"prompt": [{"role": "judge", "content": "x"}], "response": "x"}, "line 2: prompt should be a text"),
    ],
)
def test_a_line_that_is_no_response_is_named(line: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"prompt": "a", "response": "b"}) + "\n" + json.dumps(line) + "\n")
    with pytest.raises(InputError, match=words):
        read_responses(path)


def test_every_turn_is_a_prompt_of_its_own_with_the_models_words_left_open() -> None:
    rows = [row("a", "One?", follow_ups=("Two?", "Three?")), row("b", "Alone?")]
    found = list(every_turn(rows))
    assert [(turn.conversation, turn.number, turn.row.id) for turn in found] == [
        ("a", 1, "a"), ("a", 2, "a/turn-2"), ("a", 3, "a/turn-3"), ("b", 1, "b"),
    ]  # fmt: skip
    assert [message.content for message in found[2].row.prompt] == ["One?", OWN_REPLY, "Two?", OWN_REPLY, "Three?"]
    assert all(turn.row.follow_ups == () for turn in found)
    assert [(conversation_of(turn.row.id), turn_number(turn.row.id)) for turn in found] == [
        (turn.conversation, turn.number) for turn in found
    ]


def test_a_turn_goes_on_from_what_was_said() -> None:
    asked = continued(row("a", "One?", follow_ups=("Two?",)), ["Eins."])
    assert asked.prompt == (*user_prompt("One?"), Message(role="assistant", content="Eins."), *user_prompt("Two?"))
    with pytest.raises(ValueError, match="1 follow-ups, not 2"):
        continued(row("a", "One?", follow_ups=("Two?",)), ["Eins.", "Zwei."])


def test_what_is_trained_on_may_not_say_a_held_out_follow_up() -> None:
    words = "now rewrite the whole of it as a limerick about three wise and patient old sailors"
    held_out = EvaluationPrompts([row("a", "Write a story.", follow_ups=(words,))])
    assert held_out.overlap(row("b", f"Please, {words}.")) == SAME_WORDS
    assert held_out.overlap(row("c", "Write a poem.")) is None
