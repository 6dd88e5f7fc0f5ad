"""What commands print at their end, of names that users and models give."""

import os
from pathlib import Path

import pytest

from limbeck.commands.summary import show_alarms, show_rehearsal
from limbeck.conductor import Standing
from limbeck.recipe.pairs import Teach
from limbeck.records.alarms import Alarm
from limbeck.stages.teach.rehearsal import Rehearsed
from limbeck.store import write_json, write_records
from limbeck.units.unit import Unit


def test_a_teachers_name_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    rehearsed = Rehearsed({}, requests=2, prompt_tokens=9, most_reply_tokens=20, prompts_usd=None, most_usd=None)
    show_rehearsal(rehearsed, Teach(teacher="openai:[red]x[/blue] \x1b[2J"))
    assert "No price is known for openai:[red]x[/blue] ⟪U+001B⟫[2J; there is no budget" in capsys.readouterr().out


def alarm(sentence: str) -> Alarm:
    return Alarm(about="x", field="alarms.x", value=1.0, threshold=0.5, sentence=sentence, advice="Do less.")


def test_the_alarms_of_a_run_are_shown_pairs_first_and_then_as_they_were_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("sft", "dpo/[red]arm[/red]", "verdict")
    standings = [Standing(Unit(name, {}, {}), None, "fresh") for name in names]
    show_alarms(tmp_path, standings)
    assert capsys.readouterr().out == ""
    for at, unit in enumerate((*names, "dpo/of_an_earlier_recipe")):
        file = tmp_path / unit / "alarms.jsonl"
        file.parent.mkdir(parents=True)
        write_records(file, [alarm(f"{unit}, step 5: it is bad.")])
        os.utime(file, (at, at))
    (tmp_path / "audit").mkdir()
    write_json(tmp_path / "audit" / "audit.json", {"audits": [], "alarms": [alarm("Narrow.").model_dump()]})
    show_alarms(tmp_path, standings)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("4 alarms")
    assert lines[1:] == [
        "Narrow. Do less.",
        "sft, step 5: it is bad. Do less.",
        "dpo/[red]arm[/red], step 5: it is bad. Do less.",
        "verdict, step 5: it is bad. Do less.",
    ]
