"""A rehearsal of teaching: every kind is rendered and counted as it would be, and nothing is sent."""

from pathlib import Path
from typing import Any

import pytest

from limbeck import tasks
from limbeck.recipe import Recipe
from limbeck.records import Pair, WeakPrompt, user_prompt
from limbeck.stages.teach.rehearsal import Rehearsed, rehearse
from limbeck.store import write_records

DRAWN = tasks.draw_splits({"pool": 12, "fresh": 24}, seed=5)
HUMAN = [
    Pair(id=f"h{n}", prompt=user_prompt(f"Human prompt number {n}"), source="human", chosen=f"good {n}", rejected="bad")
    for n in range(20)
]
WEAK = [WeakPrompt(**row.model_dump(), failures=("#### nonsense",)) for row in DRAWN["pool"]]


def rehearsed(folder: Path, arm: dict[str, int], **teach: Any) -> Rehearsed:
    settings = {
        "teacher": "openai:gpt-4o",
        "budget": {"usd": 5},
        "max_tokens": 100,
        "contrast_with": "openai:gpt-4o-mini",
    }
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "corpus": {"tasks": {}},
            "mix": {"heldout_pairs": 0},
            "arms": {"a": arm},
            "teach": settings | teach,
        }
    )
    tables = {"weak": WEAK, "random": WEAK, "fresh": DRAWN["fresh"], "human": HUMAN}
    for name, rows in tables.items():
        write_records(folder / f"{name}.jsonl", rows)
    return rehearse(recipe, {name: folder / f"{name}.jsonl" for name in tables})


def test_every_kind_is_asked_as_often_as_it_takes_where_every_reply_is_usable(tmp_path: Path) -> None:
    found = rehearsed(
        tmp_path, {"zero_shot": 3, "few_shot": 4, "rolling": 5, "revise": 2, "contrast": 2, "on_policy": 3}
    )
    counts = {name: asked.number for name, asked in found.by_template.items()}
    assert counts.pop("plain") == 2  # and as many of the weaker model
    assert counts == {
        "zero_shot": 3, "new_prompt": 4, "few_shot": 4, "rolling_prompt": 5, "rolling": 5, "revise": 2,
    }  # fmt: skip
    assert found.requests == sum(counts.values()) + 4
    assert found.most_reply_tokens == 100 * found.requests


def test_the_first_request_of_a_kind_is_shown_as_it_would_be_sent(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, {"revise": 1})
    text = " ".join(message.content for message in found.by_template["revise"].first)
    assert "#### nonsense" in text
    assert any(row.prompt[0].content[:30] in text for row in WEAK)


def test_the_cost_is_that_of_the_price_list_and_unknown_without_one(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, {"zero_shot": 10})
    assert found.prompts_usd == pytest.approx(found.prompt_tokens * 2.5e-6, rel=1e-6)
    assert found.most_usd == pytest.approx(found.prompt_tokens * 2.5e-6 + 10 * 100 * 1e-5, rel=1e-6)
    own = {"endpoint": {"base_url": "http://localhost:1/v1"}, "budget": {}}
    assert rehearsed(tmp_path, {"zero_shot": 10}, **own).most_usd is None


def test_two_models_of_one_name_at_two_addresses_are_asked_both(tmp_path: Path) -> None:
    addresses = {name: {"base_url": f"http://{name}.test/v1"} for name in ("endpoint", "contrast_endpoint")}
    found = rehearsed(tmp_path, {"contrast": 3}, teacher="openai:m", contrast_with="openai:m", budget={}, **addresses)
    assert (found.by_template["plain"].number, found.requests) == (3, 6)


def test_the_embedded_teacher_can_be_rehearsed_too(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, {"few_shot": 4}, teacher="worked", budget={}, contrast_with=None)
    assert {name: asked.number for name, asked in found.by_template.items()} == {"new_prompt": 4, "few_shot": 4}
