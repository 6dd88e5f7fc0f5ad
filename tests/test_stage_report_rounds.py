"""The report's section on rounds: there where rounds were made, and nowhere else."""

from pathlib import Path

from report_fixture import build_run, recipe
from rounds_record import a_record

from limbeck.stages import report
from limbeck.stages.report.answer import answer
from limbeck.stages.report.gather import gather
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


def test_time_and_tokens_of_a_run_with_further_rounds_are_said_to_be_the_first_rounds(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    assert "the first round" not in made(root)
    write_json(root / "rounds" / "rounds.json", a_record().model_dump(mode="json"))
    notes = {fact.name: fact.note for fact in answer(gather(root, recipe()))}
    assert (notes["Time"], notes["Tokens"]) == ("the first round's", "the first round's")
    one = a_record().model_copy(update={"rounds": a_record().rounds[:1]})
    write_json(root / "rounds" / "rounds.json", one.model_dump(mode="json"))
    assert "the first round's" not in {fact.note for fact in answer(gather(root, recipe()))}
