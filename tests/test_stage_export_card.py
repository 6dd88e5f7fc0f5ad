"""The data set's card: facts only, the user's own licence and languages, and names that cannot act on the page."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from test_stage_export import exported, pair, recipe

from limbeck.recipe import Recipe
from limbeck.stages.export.card import Facts, card, code

HOSTILE = "`x`</code><script>alert(1)</script>\n# Heading\n| a | [b](http://evil.example) \x1b[2J\u202e---"


def front_matter(text: str) -> dict[str, Any]:
    _, matter, _ = text.split("---\n", 2)
    loaded = yaml.safe_load(matter)
    assert isinstance(loaded, dict)
    return loaded


def facts(**counts: Any) -> Facts:
    """Two kinds in two splits, counted as the stage does."""
    found = Facts("parquet", **counts)
    for number in range(3):
        found.count("train", pair(number, teacher="openai:x", template="zero_shot@1"))
    found.count("validation", pair(4, "human", chosen="a longer answer than the other", rejected="no"))
    return found


def test_licence_and_language_are_unknown_unless_stated() -> None:
    text = card(recipe(), facts())
    assert not {"license", "language"} & set(front_matter(text))
    assert "- Licence: unknown: nobody stated one\n- Language: unknown: nobody stated one\n" in text
    stated = card(recipe(export={"licence": "cc-by-4.0", "languages": ["en", "zh-Hant"]}), facts())
    assert front_matter(stated)["license"] == "cc-by-4.0"
    assert front_matter(stated)["language"] == ["en", "zh-Hant"]
    assert "- Licence: `cc-by-4.0`\n- Language: `en`, `zh-Hant`\n" in stated


def test_no_becomes_norwegian_and_not_false() -> None:
    assert front_matter(card(recipe(export={"languages": ["no"]}), facts()))["language"] == ["no"]


@pytest.mark.parametrize(
    "export", [{"licence": "My Own: #1"}, {"licence": ""}, {"languages": ["English"]}, {"languages": ["en\n- x"]}]
)
def test_what_the_hub_would_not_know_is_refused_in_the_recipe(export: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        recipe(export=export)


def test_front_matter_names_files_sizes_and_whether_anything_is_synthetic() -> None:
    matter = front_matter(card(recipe(), facts(drops=Counter({"zero_shot: equal answers": 2}))))
    files = {config["config_name"]: config["data_files"] for config in matter["configs"]}
    assert files["default"] == [
        {"split": "train", "path": "data/train-*.parquet"},
        {"split": "validation", "path": "data/validation-*.parquet"},
    ]
    assert files["dropped"] == [{"split": "dropped", "path": "dropped/dropped-*.parquet"}]
    assert matter["size_categories"] == ["n<1K"]
    assert "synthetic" in matter["tags"]
    human = Facts("jsonl")
    human.count("train", pair(1, "human"))
    assert "synthetic" not in front_matter(card(recipe(), human))["tags"]


def test_counts_stand_by_split_kind_teacher_template_and_reason() -> None:
    text = card(recipe({"zero_shot": 3, "human": 1}), facts(drops=Counter({"zero_shot: equal answers": 2})))
    for line in (
        "- train: 3 pairs\n  - `zero_shot`: 3\n- validation: 1 pair\n  - `human`: 1\n",
        "- `openai:x`: 3\n",
        "- `zero_shot@1`: 3\n",
        "- `zero_shot: equal answers`: 2\n",
        "- The chosen answer is the longer one in 1 of 4 pairs.\n",
        "- 0 of 4 prompts are problems whose answers a program can check.\n",
        "- `zero_shot`: Teacher's pairs on mined prompts.\n",
    ):
        assert line in text
    assert "SHA-256 of what the recipe says of making pairs: `" in text


def test_a_source_that_is_called_like_a_setting_is_not_described() -> None:
    found = Facts("parquet")
    for source in ("mixing", "synthetic_share", "zero_shot"):
        found.count("train", pair(1, source))
    assert re.findall("^- `(\\w+)`: [A-Z]", card(recipe({"zero_shot": 3}), found), re.MULTILINE) == ["zero_shot"]


def test_a_split_without_rows_is_not_the_one_to_load() -> None:
    found = Facts("parquet")
    found.count("validation", pair(1))
    assert 'load_dataset("PATH", split="validation")' in card(recipe(), found)
    assert 'load_dataset("PATH", split="train")' in card(recipe(), facts())


def test_teachers_terms_are_something_to_check_and_only_where_there_is_a_teacher() -> None:
    assert "the terms of the teachers named above may restrict" in card(recipe(), facts())
    human = Facts("parquet")
    human.count("train", pair(1, "human"))
    assert "teachers" not in card(recipe(), human)
    assert "pairs of the source `human` stand under the terms" in card(recipe(), human)


def digest(settings: Recipe) -> str:
    found = re.search("making pairs: `([0-9a-f]{64})`", card(settings, facts()))
    assert found
    return found[1]


def test_the_digest_follows_what_makes_pairs_and_nothing_else() -> None:
    arm = {"zero_shot": 3}
    assert digest(recipe(arm)) == digest(recipe(arm, dpo={"beta": 0.3}, export={"licence": "mit"}))
    assert digest(recipe(arm)) != digest(recipe(arm, teach={"temperature": 0.1}))
    assert digest(recipe(arm)) != digest(recipe(arm, seed=2))
    assert digest(recipe(arm)) != digest(recipe({"zero_shot": 4}))
    assert digest(recipe(arm)) != digest(recipe({"few_shot": 3}))


@pytest.mark.parametrize(
    "how",
    [
        {"teach": {"budget": {"usd": 5}}},
        {"teach": {"prices": "prices.toml"}},
        {"teach": {"endpoint": {"concurrency": 3}}},
        {"model": {"device": "cpu", "dtype": "fp32"}},
        {"sft": {"gradient_checkpointing": "on"}},
    ],
)
def test_the_digest_does_not_say_on_which_machine_how_fast_or_for_how_much(how: dict[str, Any]) -> None:
    assert digest(recipe({"zero_shot": 3})) == digest(recipe({"zero_shot": 3}, **how))


def test_where_files_lie_on_the_users_disk_is_not_published(tmp_path: Path) -> None:
    sources = [{"path": str(tmp_path / "secret" / "mine.jsonl")}, {"path": "some/dataset", "config": "all"}]
    corpus = {"preferences": sources}
    settings = recipe({"human": 1, "zero_shot": 1}, corpus=corpus, model={"student": str(tmp_path / "student")})
    text = card(settings, facts())
    assert str(tmp_path) not in text
    assert "- `mine.jsonl`, split `train`\n- `some/dataset`, split `train`, configuration `all`\n" in text
    assert "were mined: `student`." in text


def test_hostile_names_stay_on_one_line_inside_one_code_span(tmp_path: Path) -> None:
    hostile = pair(1, HOSTILE, teacher=HOSTILE, template=HOSTILE)
    exported(tmp_path, {"zero_shot": [hostile]})
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert "\u202e" not in text
    lines = [line for line in text.splitlines() if "script" in line]
    assert len(lines) == 3
    assert all(re.fullmatch(r" *- `` `x`</code>[^\n]* ``: 1", line) for line in lines)
    assert front_matter(text)["configs"][0]["config_name"] == "default"


@given(st.text())
def test_a_code_span_ends_where_it_should_whatever_it_holds(text: str) -> None:
    span = code(text)
    fence = re.match("`+", span)
    assert fence
    inside = span[len(fence[0]) : -len(fence[0])]
    assert span.endswith(fence[0])
    assert len(span.splitlines()) == 1
    assert all(len(run) != len(fence[0]) for run in re.findall("`+", inside))
    assert not inside.startswith("`")
    assert not inside.endswith("`")


def test_a_thousand_names_are_summed_up() -> None:
    found = Facts("parquet")
    for number in range(1000):
        found.count("train", pair(number, teacher=f"t{number:04}"))
    text = card(recipe(), found)
    assert "- `t0029`: 1\n- 970 more names: 970\n" in text
