"""Formats: each schema is known by its fields, read to the same thing, and refused by field where it is malformed."""

import re
from typing import Any

import pytest

from limbeck.errors import InputError
from limbeck.records import Demonstration, Message, Pair, PromptRow
from limbeck.stages.corpus.formats import FORMATS, OWN, Example, detect, last_response, read_example
from limbeck.stages.corpus.turns import UnusableRowError
from limbeck.tasks.numeric import problem_of, read_answer

Values = dict[str, Any]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def said(who: str, value: str) -> dict[str, str]:
    return {"from": who, "value": value}


def conversation(*pairs: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message.model_validate({"role": role, "content": content}) for role, content in pairs)


def read(values: Values) -> Example:
    return read_example(detect([values], "file.json"), values)


Q = turn("user", "2+2?")
A = turn("assistant", "4")
WORDS = {"type": "text", "text": "2+2"}
QUESTION = conversation(("user", "2+2?"))
LONGER = conversation(("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "2+2?"))

SCHEMAS: list[tuple[str, Values, Example]] = [
    (
        "messages",  # SmolTalk
        {"messages": [Q, turn("assistant", "4")], "source": "smol-magpie"},
        Example(QUESTION, "4"),
    ),
    (
        "messages",
        {"messages": [turn("system", " "), turn("user", "Hi"), turn("assistant", "Yes?"), Q, turn("assistant", "4")]},
        Example(LONGER[1:], "4"),
    ),
    (
        "preference",  # UltraFeedback binarized: the lists repeat the prompt
        {
            "prompt": "2+2?",
            "prompt_id": "x",
            "chosen": [Q, turn("assistant", "4")],
            "rejected": [Q, turn("assistant", "5")],
            "messages": [Q, turn("assistant", "4")],
            "score_chosen": 8.0,
            "score_rejected": 2.0,
        },
        Example(QUESTION, "4", "5"),
    ),
    ("preference", {"prompt": "2+2?", "chosen": "4", "rejected": "5"}, Example(QUESTION, "4", "5")),
    (
        "preference",
        {
            "prompt": [turn("system", "Be brief."), turn("user", "Hi"), turn("assistant", "Yes?"), Q],
            "chosen": [turn("assistant", "4")],
            "rejected": [turn("assistant", "5")],
        },
        Example(LONGER, "4", "5"),
    ),
    (
        "preference, implicit prompt",
        {"chosen": [Q, turn("assistant", "4")], "rejected": [Q, turn("assistant", "5")]},
        Example(QUESTION, "4", "5"),
    ),
    (
        "preference, implicit prompt",  # HH-RLHF
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: 2+2?\n\nAssistant: Two and two:\n\n4",
            "rejected": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: 2+2?\n\nAssistant: 5",
        },
        Example(LONGER[1:], "Two and two:\n\n4", "5"),
    ),
    (
        "ShareGPT preference",
        {
            "conversations": [
                said("system", "Be brief."), said("human", "Hi"), said("gpt", "Yes?"), said("human", "2+2?")
            ],
            "chosen": said("gpt", "4"),
            "rejected": said("gpt", "5"),
        },
        Example(LONGER, "4", "5"),
    ),
    ("ShareGPT", {"conversations": [said("human", "2+2?"), said("gpt", "4")]}, Example(QUESTION, "4")),
    ("prompt and completion", {"prompt": "2+2?", "completion": "4"}, Example(QUESTION, "4")),
    (
        "prompt and completion",
        {"prompt": [Q], "completion": [turn("assistant", "4")]},
        Example(QUESTION, "4"),
    ),
    ("Alpaca", {"instruction": "2+2?", "input": "", "output": "4"}, Example(QUESTION, "4")),
    (
        "Alpaca",
        {"instruction": "Add.", "input": "2, 2", "output": "4", "system": "Be brief."},
        Example(conversation(("system", "Be brief."), ("user", "Add.\n\n2, 2")), "4"),
    ),
    (
        "GSM8K",
        {"question": "2+2?", "answer": "2 + 2 = <<2+2=4>>4\n#### 4"},
        Example(QUESTION, "2 + 2 = 4\n#### 4", problem=problem_of("2+2?", read_answer("2 + 2 = 4\n#### 4"))),
    ),
    (
        "MT-bench",
        {"question_id": 1, "category": "math", "turns": ["2+2?", "Sure?"]},
        Example(QUESTION, follow_ups=("Sure?",)),
    ),
    ("prompt and response", {"prompt": "2+2?", "response": "4"}, Example(QUESTION, "4")),
    ("prompts", {"prompt": "2+2?"}, Example(QUESTION)),
    ("prompts", {"prompt": [turn("user", "2+2?")]}, Example(QUESTION)),
    ("texts", {"id": 7, "text": "2+2?"}, Example(QUESTION)),
    (
        "limbeck's own prompts",
        {"source": "s", "prompt": [Q], "problem": None, "follow_ups": ["And 3?"], "reference_response": "4"},
        Example(QUESTION, "4", follow_ups=("And 3?",)),
    ),
    (
        "limbeck's own demonstrations",
        {"source": "s", "prompt": [Q], "problem": None, "follow_ups": [], "response": "4"},
        Example(QUESTION, "4"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "example"), SCHEMAS)
def test_each_schema_is_known_by_its_fields_and_read(name: str, values: Values, example: Example) -> None:
    assert detect([values], "file.json").name == name
    assert read(values) == example


def test_every_format_of_the_table_is_tested_here_and_none_hides_another() -> None:
    assert {name for name, _, _ in SCHEMAS} == {each.name for each in FORMATS} - {
        OWN
    }  # read back in the export's tests
    for place, each in enumerate(FORMATS):
        for before in FORMATS[:place]:
            assert not set(before.fields) <= set(each.fields)


def test_a_format_is_found_though_the_first_row_lacks_a_field() -> None:
    rows: list[Values] = [{"prompt": "a", "chosen": "b"}, {"prompt": "a", "chosen": "b", "rejected": "c"}]
    found = detect(rows, "file.json")
    assert found.name == "preference"
    with pytest.raises(InputError, match="the field 'rejected' is missing"):
        read_example(found, rows[0])


def test_unknown_fields_are_refused_by_name_with_what_would_do() -> None:
    with pytest.raises(InputError, match=r"file\.json: its fields \(a, b\) .*prompt \+ chosen \+ rejected"):
        detect([{"a": 1, "b": 2}], "file.json")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"messages": "hello"}, "'messages' should hold a list of turns, but holds text"),
        ({"messages": None}, "'messages' should hold a list of turns, but holds null"),
        ({"messages": ["hello"]}, r"'messages\.0' should hold a turn, but holds text"),
        ({"messages": [Q, {"role": "assistant"}]}, r"'messages\.1\.content' is missing"),
        ({"messages": [Q, {**A, "content": 4}]}, r"'messages\.1\.content' should hold text, but holds int"),
        ({"conversations": [{"from": "human"}]}, r"'conversations\.0\.value' is missing"),
        ({"conversations": [], "chosen": "4", "rejected": "5"}, "'chosen' should hold a turn, but holds text"),
        ({"prompt": 4}, "'prompt' should hold a list of turns, but holds int"),
        ({"prompt": "a", "chosen": "b", "rejected": None}, "'rejected' should hold a list of turns, but holds null"),
        ({"prompt": "a", "response": None}, "'response' should hold text, but holds null"),
        ({"instruction": "a", "input": 3, "output": "b"}, "'input' should hold text, but holds int"),
        ({"question": "a", "answer": 4}, "'answer' should hold text, but holds int"),
        ({"turns": "a"}, "'turns' should hold a list of texts"),
        ({"turns": [4]}, r"'turns\.0' should hold text, but holds int"),
        (
            {"chosen": "b", "rejected": "c"},
            r"'chosen' should begin with '\\n\\nHuman:' where there is no field 'prompt'",
        ),
    ],
)
def test_a_malformed_row_is_refused_by_field(values: Values, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(values)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"prompt": "a", "response": " \n"}, "empty response"),
        ({"prompt": "a", "chosen": "b", "rejected": ""}, "empty response"),
        ({"prompt": "a", "chosen": "b", "rejected": " b\n"}, "chosen equals rejected"),
        ({"chosen": [Q, A], "rejected": [turn("user", "3+3?"), turn("assistant", "6")]}, "different prompts"),
        ({"chosen": [Q], "rejected": [Q, A]}, "no response"),
        ({"prompt": "a", "chosen": [], "rejected": [A]}, "no response"),
        ({"messages": [A]}, "no user turn"),
        ({"messages": []}, "no user turn"),
        ({"messages": [turn("system", "Be brief."), A]}, "no user turn"),
        ({"prompt": "  "}, "empty turn"),
        ({"messages": [Q, Q, A]}, "turns do not alternate"),
        ({"messages": [A, Q, A]}, "turns do not alternate"),
        ({"messages": [Q, turn("system", "Be brief."), A]}, "turns do not alternate"),
        ({"messages": [Q, turn("tool", "4"), A]}, "another role"),
        ({"prompt": [Q, A]}, "prompt does not end with a user turn"),
        ({"turns": []}, "no user turn"),
        ({"prompt": "half a pair: \ud83d"}, "no valid Unicode"),
        ({"messages": [Q, {**A, "content": None}]}, "empty response"),
        ({"messages": [Q, {**A, "content": []}]}, "empty response"),
        ({"conversations": [said("human", "2+2?"), {"from": "gpt", "value": None}]}, "empty response"),
        ({"messages": [Q, {**A, "content": None, "tool_calls": [{}]}, Q, A]}, "empty turn"),
        ({"prompt": [{**Q, "content": None}]}, "empty turn"),
        ({"prompt": [{**Q, "content": [WORDS, {"type": "image", "url": "a.png"}]}]}, "parts that are no text"),
        ({"chosen": [Q, A], "rejected": [Q, {**A, "content": ["5"]}]}, "parts that are no text"),
        ({"messages": [Q, {**A, "content": [{**WORDS, "text": None}]}]}, "parts that are no text"),
        ({"messages": [Q, {**A, "content": [{**WORDS, "text": "\ud83d"}]}]}, "no valid Unicode"),
        ({"instruction": "a", "output": "b", "history": [["c", "d"]]}, "history"),
    ],
)
def test_a_well_formed_row_of_no_use_has_a_reason(values: Values, reason: str) -> None:
    with pytest.raises(UnusableRowError, match=reason):
        read(values)


@pytest.mark.parametrize("field", ["messages", "prompt", "conversations"])
def test_a_turn_in_parts_of_text_is_read_as_the_text_that_they_make(field: str) -> None:
    question = {"role": "user", "content": [WORDS, {**WORDS, "text": "?", "image": None}]}
    assert read({field: [question]}) == Example(QUESTION)
    assert read({field: [{"role": "system", "content": None}, question]}) == Example(QUESTION)


def test_a_reply_without_text_is_no_fault_where_prompts_alone_are_asked_for() -> None:
    values = {"messages": [Q, {**A, "content": None}]}
    assert read_example(detect([values], "file.json"), values, "prompts") == Example(QUESTION)


def test_a_conversation_that_ends_with_the_user_is_a_prompt_and_its_last_answer_a_demonstration() -> None:
    whole = read({"messages": [Q, A, turn("user", "Sure?")]})
    assert whole == Example(conversation(("user", "2+2?"), ("assistant", "4"), ("user", "Sure?")))
    assert last_response(whole) == Example(QUESTION, "4")
    with pytest.raises(UnusableRowError, match="no response"):
        last_response(Example(QUESTION))


def test_a_completion_that_is_labelled_bad_is_nothing_to_learn_from() -> None:
    """TRL's unpaired preferences, as KTO takes them."""
    good = {"prompt": "2+2?", "completion": "4", "label": True}
    assert read(good) == Example(QUESTION, "4")
    with pytest.raises(UnusableRowError, match="labelled as a bad completion"):
        read(good | {"label": False})


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
        {"prompt": "2+2?", "response": "4"},
        {"conversations": [said("human", "2+2?"), said("gpt", "4")]},
    ],
)
def test_a_system_turn_in_a_column_of_its_own_opens_the_prompt(row: Values) -> None:
    found = read(row | {"system": "Be brief."})
    assert found.prompt == conversation(("system", "Be brief."), ("user", "2+2?"))
    assert read(row | {"system": None}).prompt == read(row | {"system": ""}).prompt == QUESTION


@pytest.mark.parametrize("field", ["options", "choices"])
def test_a_question_with_options_is_no_problem_with_a_number(field: str) -> None:
    with pytest.raises(InputError, match=f"the field '{field}' beside question and answer is not read"):
        read({"question": "Which?", field: ["red", "blue"], "answer": "2"})
    assert read({"question": "2+2?", field: None, "answer": "#### 4"}).problem is not None


def test_a_prompt_in_hh_rlhfs_text_is_the_conversation_it_spells() -> None:
    row = {"prompt": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: 2+2?\n\nAssistant:", "chosen": "4", "rejected": "5"}
    expected = conversation(("user", "Hi"), ("assistant", "Yes?"), ("user", "2+2?"))
    assert read(row) == Example(expected, "4", "5")


def test_what_limbeck_wrote_comes_back_with_problem_reference_and_later_turns() -> None:
    problem = problem_of("2+2?", read_answer("#### 4"))
    named: Any = {"id": "a", "prompt": QUESTION, "source": "s", "problem": problem}
    test = PromptRow(**named, reference_response="4", follow_ups=("And 3?",))
    found = read(test.model_dump(mode="json"))
    assert found == Example(QUESTION, "4", follow_ups=("And 3?",), problem=problem)
    told = Demonstration(**named, response="It is 4")
    assert read(told.model_dump(mode="json")) == Example(QUESTION, "It is 4", problem=problem)
    pair = Pair(**named, chosen="4", rejected="5")
    assert read(pair.model_dump(mode="json")).problem == problem
    parquet = pair.model_dump(mode="json") | {"problem": problem and problem.model_dump_json()}
    assert read(parquet).problem == problem
    for damaged, words in (({"family": 3}, "problem."), ("{", "should hold a problem as JSON")):
        with pytest.raises(InputError, match=re.escape(words)):
            read(pair.model_dump(mode="json") | {"problem": damaged})
    half = test.model_dump(mode="json")
    half["problem"]["content"] = "\ud83d"
    with pytest.raises(InputError, match="half of a surrogate pair"):
        read(half)
