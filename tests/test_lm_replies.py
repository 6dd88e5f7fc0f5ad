"""Asking a model: replies in the order of the rows, none sampled twice, prompts over the limit counted."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import tiny_folder, tiny_model

from limbeck.errors import InputError
from limbeck.lm.generate import Sampling
from limbeck.lm.load import LanguageModel
from limbeck.lm.replies import ask
from limbeck.recipe import Model
from limbeck.records import Message, PromptRow, Reply, user_prompt
from limbeck.store import read_records, write_records

ROWS = [
    PromptRow(id=f"row/{n}", prompt=user_prompt(text), source="test")
    for n, text in enumerate(["What is two plus three?", "Hi", "Let us think step by step. " * 3, "x", "Is five odd?"])
]
SAMPLING = Sampling(max_new_tokens=6, temperature=0.8, seed=3)
LIMITS = Model(max_prompt_tokens=200)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return tiny_model(tiny_folder(tmp_path_factory.mktemp("llama")))


def test_replies_stand_in_the_order_of_the_rows(model: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    got = ask(model, ROWS, SAMPLING, LIMITS, path, "test")
    assert [reply.prompt_id for reply in got.replies] == [row.id for row in ROWS]
    assert read_records(path, Reply) == got.replies
    assert got.tokens == sum(reply.num_tokens for reply in got.replies)
    assert got.drops == {}


def test_replies_that_an_interrupted_call_left_are_kept_and_not_sampled_again(
    model: LanguageModel, tmp_path: Path
) -> None:
    whole = ask(model, ROWS, SAMPLING, LIMITS, tmp_path / "whole.jsonl", "test").replies
    path = tmp_path / "replies.jsonl"
    kept = [
        Reply(prompt_id="row/3", text="was paid for", finish_reason="stop", num_tokens=4),
        Reply(prompt_id="row/0", text="this too", finish_reason="length", num_tokens=3),
    ]
    write_records(path, kept)
    with path.open("a") as file:
        file.write('{"prompt_id": "row/1", "te')
    got = ask(model, ROWS, SAMPLING, LIMITS, path, "test")
    assert got.replies == [kept[1], whole[1], whole[2], kept[0], whole[4]]
    assert got.tokens == sum(reply.num_tokens for reply in got.replies)
    assert read_records(path, Reply) == got.replies
    again = ask(model, ROWS, SAMPLING, LIMITS, path, "test")
    assert again.replies == got.replies
    assert again.tokens_per_second == 0


def test_prompts_over_the_limit_get_no_reply_and_are_counted(model: LanguageModel, tmp_path: Path) -> None:
    got = ask(model, ROWS, SAMPLING, Model(max_prompt_tokens=40), tmp_path / "replies.jsonl", "test")
    assert [reply.prompt_id for reply in got.replies] == ["row/0", "row/1", "row/3", "row/4"]
    assert got.drops == {"prompt over 40 tokens": 1}


def test_a_conversation_that_the_template_refuses_is_dropped_and_counted(model: LanguageModel, tmp_path: Path) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    tokenizer = copy.deepcopy(model.chat.tokenizer)
    tokenizer.chat_template = f"{template}{tokenizer.chat_template}"
    strict = replace(model, chat=replace(model.chat, tokenizer=tokenizer))
    system = ROWS[0].model_copy(
        update={"id": "strict", "prompt": (Message(role="system", content="x"), *ROWS[0].prompt)}
    )
    got = ask(strict, [*ROWS, system], SAMPLING, LIMITS, tmp_path / "replies.jsonl", "test")
    assert len(got.replies) == len(ROWS)
    assert got.drops == {"conversation refused by the chat template": 1}


def test_two_rows_of_one_id_are_refused(model: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'row/0'"):
        ask(model, [*ROWS, ROWS[0]], SAMPLING, LIMITS, tmp_path / "replies.jsonl", "test")


def test_no_rows_leave_an_empty_file(model: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    assert ask(model, [], SAMPLING, LIMITS, path, "test").replies == []
    assert path.read_text() == ""


def test_several_samples_a_row_stand_together_and_only_the_missing_ones_are_written(
    model: LanguageModel, tmp_path: Path
) -> None:
    path = tmp_path / "replies.jsonl"
    whole = ask(model, ROWS, SAMPLING, LIMITS, path, "test", samples=3)
    places = [(row.id, index) for row in ROWS for index in range(3)]
    assert [(reply.prompt_id, reply.sample_index) for reply in whole.replies] == places
    assert whole.replies[::3] == ask(model, ROWS, SAMPLING, LIMITS, tmp_path / "one.jsonl", "test").replies
    kept = [whole.replies[0].model_copy(update={"text": "was paid for"}), *whole.replies[4:9]]
    write_records(path, kept)
    again = ask(model, ROWS, SAMPLING, LIMITS, path, "test", samples=3)
    assert again.replies == [kept[0], *whole.replies[1:]]
    assert read_records(path, Reply) == again.replies
