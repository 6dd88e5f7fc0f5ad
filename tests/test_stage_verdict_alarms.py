"""Alarms over the replies of a run, and which units depend on their thresholds."""

from pathlib import Path
from typing import Any

import pytest

from limbeck import pipeline
from limbeck.recipe import Recipe
from limbeck.recipe.file import parse_recipe
from limbeck.records import PromptRow, Reply, user_prompt
from limbeck.records.alarms import Alarm
from limbeck.records.verdict import ModelScore
from limbeck.stages.verdict.alarms import ALARMS, look_at_replies
from limbeck.stages.verdict.models import Model
from limbeck.store import read_records

ASKED = "How many eggs are left in the basket?"
ROWS = [PromptRow(id=f"p{at}", prompt=user_prompt(ASKED), source="own") for at in range(30)]


def model(name: str, *texts: str) -> Model:
    replies = {row.id: Reply(prompt_id=row.id, text=text, finish_reason="stop", num_tokens=None)
               for row, text in zip(ROWS, texts, strict=True)}  # fmt: skip
    return Model(name, replies, {}, None, None)


def score(name: str) -> ModelScore:
    return ModelScore(model=name, num_replies=30, unparsable=0, truncated=0, unscored=0, mean_response_tokens=None,
                      repetition_rate=0)  # fmt: skip


def test_arms_are_held_against_sft_and_sft_against_the_base_model_and_every_score_has_its_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    echo, good = f"{ASKED} {ASKED}", "There are nine of them left in it now."
    models = [
        model("base", *[echo] * 6, *[good] * 24),
        model("sft", *[good] * 30),
        model("arm", *[echo] * 15, *[good] * 15),
        model("long", *[f"{good} And nobody took one of the others, as far as we can tell by now."] * 30),
    ]
    recipe = Recipe(name="r")
    scores = look_at_replies(models, [score(each.name) for each in models], ROWS, recipe, tmp_path)
    assert [found.prompt_echo_rate for found in scores] == [0.2, 0.0, 0.5, 0.0]
    alarms = read_records(tmp_path / ALARMS, Alarm)
    assert {(alarm.about, alarm.field) for alarm in alarms} >= {
        ("evaluate/arm", "alarms.max_prompt_echo_rise"),
        ("evaluate/long", "alarms.max_length_factor"),
    }
    assert {alarm.about for alarm in alarms} == {"evaluate/arm", "evaluate/long"}
    said = capsys.readouterr().err
    assert [f"ALARM {alarm.sentence} {alarm.advice}" in said for alarm in alarms] == [True] * len(alarms)


def test_a_reply_to_a_prompt_that_is_not_of_the_test_counts_for_nothing(tmp_path: Path) -> None:
    (found,) = look_at_replies([model("sft", *[ASKED] * 30)], [score("sft")], ROWS[:0], Recipe(name="r"), tmp_path)
    assert found.prompt_echo_rate is None
    assert read_records(tmp_path / ALARMS, Alarm) == []


def units(**alarms: object) -> dict[str, Any]:
    data = {"name": "r", "corpus": {"tasks": {}}, "arms": {"a": {"random": 4}}, "alarms": alarms}
    return {unit.name: unit.part for unit in pipeline.units(parse_recipe(data, "r.toml"), Path("/b"))}


def test_another_threshold_trains_nothing_anew_and_makes_the_verdict_again() -> None:
    before, after = units(), units(max_loss_rise=0.5)
    assert {name for name in before if before[name] != after[name]} == {"verdict", "report"}


def test_where_alarms_stop_training_their_thresholds_decide_what_comes_of_it() -> None:
    before, after = units(on_alarm="stop"), units(on_alarm="stop", max_loss_rise=0.5)
    assert {name for name in before if before[name] != after[name]} >= {"sft", "dpo/a", "verdict"}
    assert before["corpus"] == after["corpus"]
