"""The report's section on rounds: there where rounds were made, and nowhere else."""

from pathlib import Path

from report_fixture import build_run, recipe
from rounds_record import a_record

from limbeck.manifest import MANIFEST
from limbeck.stages import report
from limbeck.stages.report.gather import gather
from limbeck.stages.report.ledger import stage_table
from limbeck.store import write_json


def made(run_folder: Path) -> str:
    report.run(recipe(), {"run": run_folder}, run_folder / "report")
    return (run_folder / "report" / "report.html").read_text(encoding="utf-8")


def test_every_round_has_a_row_with_its_gain_and_what_it_took(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    assert "Round by round" not in made(root)
    write_json(root / "rounds" / "rounds.json", a_record(why="round 2 <b>ended</b> it").model_dump(mode="json"))
    shown = made(root).partition('<section id="rounds">')[2].partition("</section>")[0]
    for said in ("+6.0 points", "[+2.9, +8.9]", "+7.5 points", "$1.20", "30 min 0 s", "rounds/2/dpo/taught/model"):
        assert said in shown
    assert "No further round: round 2 &lt;b&gt;ended&lt;/b&gt; it. Note that it was looked at twice." in shown
    assert "95%" in shown


def test_rewards_are_in_the_judges_own_unit(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    write_json(root / "rounds" / "rounds.json", a_record(judge="local").model_dump(mode="json"))
    shown = made(root).partition('<section id="rounds">')[2].partition("</section>")[0]
    assert "Mean reward" in shown
    assert "points" not in shown
    assert "+0.06" in shown


def test_what_further_rounds_took_is_part_of_what_the_run_took(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    one_round = gather(root, recipe()).manifests
    again = root / "rounds" / "2" / "mine"
    again.mkdir(parents=True)
    (again / MANIFEST).write_bytes((root / "mine" / MANIFEST).read_bytes())
    (root / "rounds" / "2" / "screen").mkdir()
    record = a_record().model_copy(update={"arm": "on_policy"})
    write_json(root / "rounds" / "rounds.json", record.model_dump(mode="json"))
    found = gather(root, recipe())
    assert set(found.manifests) - set(one_round) == {"rounds/2/mine"}
    assert [gap.path for gap in found.gaps if gap.path.startswith("rounds")] == ["rounds/2/screen/manifest.json"]
    rows = {row[0].main: row for row in stage_table(found.manifests).rows}
    assert rows["rounds"][2].main == rows["mine"][2].main
    assert rows["Together"][1].main == str(len(one_round) + 1)
