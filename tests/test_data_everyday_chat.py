"""The everyday chat prompts: enough of them, all different, of bounded length, spread over topics."""

import json
import re
from collections import Counter
from importlib.resources import files

import pytest

Prompt = dict[str, str]


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    text = files("limbeck.data").joinpath("everyday_chat.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def test_every_line_has_exactly_an_id_a_text_and_a_topic(prompts: list[Prompt]) -> None:
    assert len(prompts) >= 200
    for prompt in prompts:
        assert list(prompt) == ["id", "text", "topic"]
        assert all(isinstance(value, str) and value == value.strip() != "" for value in prompt.values())


def test_ids_are_unique_and_in_order(prompts: list[Prompt]) -> None:
    assert [prompt["id"] for prompt in prompts] == [f"chat/{place:03d}" for place in range(1, len(prompts) + 1)]


def test_texts_differ_in_more_than_case_and_punctuation(prompts: list[Prompt]) -> None:
    assert len({" ".join(words(prompt["text"])) for prompt in prompts}) == len(prompts)


def test_no_two_prompts_share_a_run_of_eight_words(prompts: list[Prompt]) -> None:
    owner: dict[tuple[str, ...], str] = {}
    for prompt in prompts:
        said = words(prompt["text"])
        for start in range(len(said) - 7):
            assert owner.setdefault(tuple(said[start : start + 8]), prompt["id"]) == prompt["id"]


def test_prompts_have_3_to_60_words_and_not_all_are_one_liners(prompts: list[Prompt]) -> None:
    lengths = [len(prompt["text"].split()) for prompt in prompts]
    assert min(lengths) >= 3
    assert max(lengths) <= 60
    assert sum(length >= 20 for length in lengths) >= 40


def test_topics_are_many_and_any_first_part_of_the_file_is_spread_over_them(prompts: list[Prompt]) -> None:
    counts = Counter(prompt["topic"] for prompt in prompts)
    assert len(counts) >= 12
    assert min(counts.values()) >= 8
    assert {prompt["topic"] for prompt in prompts[: len(counts)]} == set(counts)
