"""The rounds of a run on the console: gains and what they took within 80 columns, and why there are no more."""

from pathlib import Path

import pytest
from rounds_record import a_record

from limbeck.commands.rounds_table import show_rounds
from limbeck.errors import InputError
from limbeck.records.rounds import RoundsRecord
from limbeck.store import write_json


def shown(record: RoundsRecord, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    write_json(folder / "rounds.json", record.model_dump(mode="json"))
    show_rounds(folder / "rounds.json")
    return capsys.readouterr().out


def test_every_gain_stands_there_with_its_interval_and_its_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(a_record(), tmp_path, capsys)
    lines = out.splitlines()
    (first,) = [line for line in lines if line.startswith("│     1")]
    cells = [cell.strip() for cell in first.strip("│").split("│")]
    # 6 points: by 1.2 thousand pairs, by 1.20 dollars, by half an hour.
    assert cells == ["1", "41.2", "+6.0", "+6.0", "1,200", "+5.00", "+5.00", "+12.00"]
    (second,) = [line for line in lines if line.startswith("│     2")]
    assert [cell.strip() for cell in second.strip("│").split("│")][-3:] == ["+1.25", "-", "+1.50"]
    assert "[+2.9," in out  # an interval takes two lines where the terminal is narrow
    assert "+8.9]" in out
    assert max(map(len, lines[: lines.index("No further round: round 2 did not clearly gain.")])) <= 80
    assert lines[-1] == "It was looked at twice."


def test_what_is_not_known_is_a_dash_and_not_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (first, _) = a_record().rounds
    blank = first.model_copy(update={"score": None, "gain": None, "gain_over_sft": None})
    out = shown(a_record(rounds=(blank,), arm="[red]a"), tmp_path, capsys)
    (row,) = [line for line in out.splitlines() if line.startswith("│     1")]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["1", "-", "-", "-", "1,200", "-", "-", "-"]
    assert "[red]a" in out


def test_rounds_that_are_not_finished_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rounds\.json does not exist: the rounds of this run are not finished"):
        show_rounds(tmp_path / "rounds.json")
