"""Iterated runs of a tiny student: what every round leaves, what an edit makes stale, what stops them."""

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from street import limbeck, outputs, process, settings, student, write_tiny_recipe

from limbeck import rounds
from limbeck.commands.compared import read_run
from limbeck.likeness import prompt_identity
from limbeck.manifest import IN_PROGRESS, MANIFEST, read_manifest
from limbeck.recipe import Recipe
from limbeck.recipe.file import load_recipe
from limbeck.records import Pair, PromptRow
from limbeck.records.rounds import RoundsRecord
from limbeck.records.verdict import Verdict
from limbeck.run_folder import RECIPE_FILE
from limbeck.store import digest_path, read_records
from limbeck.stream import stream_seed

ROUND = ["mine", "teach", "screen", "export", "mix/mixed", "audit", "dpo/mixed", "evaluate/mixed",
         "heldout_pairs/base", "heldout_pairs/sft", "heldout_pairs/mixed", "verdict", "report"]  # fmt: skip
ARM = "arms={mixed={zero_shot=2,on_policy=2}}"
ALL = ("rounds.count=2", "rounds.stop_when_unclear=false", ARM, "dpo.epochs=1", "corpus.tasks.pool=24")
# Each goes on where the last was killed: before a round has its recipe, in its mining, at its first checkpoint,
# before a round has its verdict's manifest, and before all are added up.
KILLS = (
    ("rounds/2/recipe.toml", 1),
    ("rounds/2/mine/replies.jsonl", 1),
    ("rounds/2/dpo/mixed/.checkpoint.pt", 1),
    (f"rounds/3/verdict/{MANIFEST}", 1),
    ("rounds/rounds.json", 1),
)


def of_round(number: int) -> list[str]:
    return [f"rounds/{number}/{unit}" for unit in ROUND]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rounds")
    return write_tiny_recipe(folder / "recipe.toml", student(folder / "base"))


@pytest.fixture(scope="module")
def finished(recipe: Path) -> Path:
    """A finished run of two rounds, made of one of one, to be looked at and not to be touched."""
    folder = recipe.parent / "run"
    limbeck("run", recipe, "--out", folder, *settings(*ALL, "rounds.count=1")).done()
    # A round more runs alone: what was drawn for fewer has not moved.
    more = limbeck("run", recipe, "--out", folder, *settings(*ALL)).done()
    assert more.ran == ["corpus", *of_round(2), "rounds", "report"]
    assert "No further round: all 2 rounds were made." in more.out
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, dates and all."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def record(folder: Path) -> RoundsRecord:
    return RoundsRecord.model_validate_json((folder / "rounds" / "rounds.json").read_text())


def left(folder: Path) -> dict[str, Any]:
    """What every unit left, but for what tells the time."""
    found = outputs(folder)
    found["rounds"] = {"rounds.json": [one.model_copy(update={"seconds": 0}) for one in record(folder).rounds]}
    return {unit: names for unit, names in found.items() if not unit.endswith("report")}


def test_a_second_run_does_nothing_and_every_round_is_a_fresh_run_folder(run: Path, recipe: Path) -> None:
    assert limbeck("run", recipe, "--out", run, *settings(*ALL)).done().ran == []
    standings = limbeck("status", run).done().out.splitlines()
    names = [line.split()[0] for line in standings if " fresh" in line]
    assert names[-len(ROUND) - 2 :] == [*of_round(2), "rounds", "report"]
    assert not [line for line in standings if " stale" in line or " waiting" in line]
    own = limbeck("status", run / "rounds" / "2").done().out.splitlines()
    assert [line.split()[0] for line in own if " fresh" in line] == ROUND
    assert limbeck("run", run / "rounds" / "2" / "recipe.toml").complaint.startswith(
        "rounds.number: this is the recipe"
    )


def test_every_round_goes_on_from_the_last_ones_model_and_is_compared_with_it(finished: Path) -> None:
    see_chain(finished, 2)


def see_chain(run: Path, number: int) -> None:
    last = run if number == 2 else run / "rounds" / str(number - 1)
    folder = run / "rounds" / str(number)
    before = digest_path(last / "dpo" / "mixed" / "model")
    found = {unit: read_manifest(folder / unit) for unit in ("mine", "dpo/mixed", "verdict")}
    mined, trained, judged = (manifest.inputs for manifest in found.values() if manifest is not None)
    assert mined["student"] == trained["policy"] == trained["reference"] == before
    assert judged["sft/replies"] == digest_path(last / "evaluate" / "mixed" / "replies.jsonl")
    assert judged["test"] == digest_path(run / "corpus" / "test.jsonl")
    verdict = Verdict.model_validate_json((folder / "verdict" / "verdict.json").read_text())
    assert verdict.sentence.startswith(f"Round {number}, in which SFT stands for the model of round {number - 1}. ")
    gain = verdict.of("mixed", "sft", "verifier")
    assert gain is not None
    assert gain.difference == record(run).rounds[number - 1].gain


def another_seed(run: Path, folder: Path) -> Path:
    """A copy of a run that says that it is of another seed."""
    shutil.copytree(run, folder)
    for recipe in folder.rglob(RECIPE_FILE):
        recipe.write_text(re.sub(r"^seed = \d+", "seed = 9", recipe.read_text(), count=1, flags=re.MULTILINE))
    return folder


def test_a_round_is_compared_with_the_last_rounds_model_wherever_one_stands(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = another_seed(finished, tmp_path / "other")
    told = limbeck("compare", finished / "rounds" / "2", other / "rounds" / "2").done()
    assert "In a further round, SFT stands for the last round's model" in told.err
    replies = other / "evaluate" / "mixed" / "replies.jsonl"
    replies.write_text(replies.read_text().replace('"text":"', '"text":"of round 1: '))
    first, second = read_run(other)[1].models, read_run(other / "rounds" / "2")[1].models
    assert second["sft"].replies == first["mixed"].replies != first["sft"].replies
    assert "these are different rounds" in limbeck("compare", finished, other / "rounds" / "2").complaint
    monkeypatch.chdir(finished / "rounds" / "2")
    assert limbeck("compare", ".", other / "rounds" / "2").done().out.count("W/T/L") == told.out.count("W/T/L")


def test_no_problem_is_in_two_rounds_nor_in_any_other_part_of_the_corpus(finished: Path) -> None:
    names = ("pool", "fresh", "pool_round_2", "fresh_round_2", "demonstrations", "validation", "test", "transfer")
    seen: set[object] = set()
    for name in names:
        lines = (finished / "corpus" / f"{name}.jsonl").read_text().splitlines()
        rows = [json.loads(line)["problem"]["content"] for line in lines if json.loads(line)["problem"]]
        assert rows
        assert not seen & set(rows), name
        seen |= set(rows)
    pairs = read_records(finished / "rounds" / "2" / "mix" / "mixed" / "train.jsonl", Pair)
    pool = read_records(finished / "corpus" / "pool_round_2.jsonl", PromptRow)
    assert {prompt_identity(pair) for pair in pairs} <= {prompt_identity(row) for row in pool}


def test_the_record_and_the_report_show_every_round_with_what_it_took(finished: Path) -> None:
    found = record(finished)
    assert (found.arm, found.judge, found.asked_for, found.stopped) == ("mixed", "verifier", 2, "all")
    assert [one.number for one in found.rounds] == [1, 2]
    for one in found.rounds:
        folder = finished if one.number == 1 else finished / "rounds" / str(one.number)
        assert one.pairs == len((folder / "mix" / "mixed" / "train.jsonl").read_text().splitlines()) == 4
        made = [read_manifest(folder / unit) for unit in ("mine", "teach", "screen", "mix/mixed", "dpo/mixed")]
        assert one.seconds == pytest.approx(sum(manifest.seconds for manifest in made if manifest), abs=0.01)
        assert (finished / one.model / "config.json").is_file()
        assert one.usd is None  # worked solutions cost nothing
        assert one.gain_over_sft is not None
        assert one.gain_over_sft.n == 8
    page = (finished / "report" / "report.html").read_text()
    assert "Round by round" in page
    assert found.why in page
    own = (finished / "rounds" / "2" / "report" / "report.html").read_text()
    assert "Not in the run folder" not in own
    assert "Round by round" not in own


def test_a_new_beta_trains_every_round_again_and_mines_what_the_new_students_fail(run: Path, recipe: Path) -> None:
    ran = limbeck("run", recipe, "--out", run, *settings(*ALL, "dpo.beta=0.7")).done().ran
    assert ran[0] == "dpo/mixed"
    assert "corpus" not in ran
    assert "mine" not in ran
    assert {f"rounds/2/{unit}" for unit in ("mine", "dpo/mixed", "verdict")} <= set(ran)


def test_what_is_lost_of_a_round_is_made_again_as_it_was(run: Path, recipe: Path) -> None:
    before = left(run)
    shutil.rmtree(run / "rounds" / "2" / "screen")
    (run / "rounds" / "rounds.json").unlink()
    assert "stale: not run yet" in limbeck("status", run).done().out
    ran = limbeck("run", recipe, "--out", run, *settings(*ALL)).done().ran
    assert ran == ["rounds/2/screen", "rounds/2/report", "rounds", "report"]
    assert left(run) == before


def test_a_round_that_gains_nothing_clear_is_the_last_one(run: Path, recipe: Path) -> None:
    # A student that solves nothing before and after has gained 0, and its interval holds that.
    ended = limbeck("run", recipe, "--out", run, *settings(*ALL, "rounds.stop_when_unclear=true")).done()
    assert ended.ran == ["rounds", "report"]
    found = record(run)
    assert (found.stopped, len(found.rounds)) == ("unclear", 1)
    assert found.why == "round 1 did not clearly gain on the model before it: its 95 % interval holds zero"
    assert any("was decided on the test prompts" in limit for limit in found.limits)
    assert (run / "rounds" / "2" / "verdict" / MANIFEST).is_file()  # nothing that was made is thrown away
    names = [line.split()[0] for line in limbeck("status", run).done().out.splitlines() if line]
    assert not [name for name in names if name.startswith("rounds/")]


def test_chat_is_with_the_last_rounds_model_unless_another_is_named(run: Path) -> None:
    assert "base on the left, round-2 on the right" in limbeck("chat", run, stdin="").done().err
    named = limbeck("chat", run, "--model", "round-2", "--before", "mixed", stdin="").done()
    assert "mixed on the left, round-2 on the right" in named.err
    own = limbeck("chat", run / "rounds" / "2", "--before", "sft", stdin="").done()
    assert "sft on the left, mixed on the right" in own.err


def test_rounds_of_sft_go_on_from_the_last_ones_model_too(run: Path, recipe: Path) -> None:
    by_sft = 'arms={mixed={zero_shot=2,on_policy=2,trains="sft",starts_from="sft"}}'
    ran = limbeck("run", recipe, "--out", run, *settings(*ALL, by_sft)).done().ran
    assert not {"corpus", "sft", "mine"} & set(ran)
    assert {"sft_arms/mixed", "rounds/2/sft_arms/mixed", "rounds/2/verdict"} <= set(ran)
    before = digest_path(run / "sft_arms" / "mixed" / "model")
    mined, trained = (read_manifest(run / "rounds" / "2" / unit) for unit in ("mine", "sft_arms/mixed"))
    assert mined is not None
    assert trained is not None
    assert mined.inputs["student"] == trained.inputs["base"] == before
    assert record(run).rounds[-1].model == "rounds/2/sft_arms/mixed/model"
    assert "Not in the run folder" not in (run / "rounds" / "2" / "report" / "report.html").read_text()
    again = limbeck("run", recipe, "--out", run, *settings(*ALL, by_sft)).done()
    assert not again.ran
    assert "rounds/2/sft_arms/mixed" in limbeck("status", run).done().out
    second, other = run / "rounds" / "2", another_seed(run, run.parent / "other") / "rounds" / "2"
    assert "In a further round, SFT stands for the last round's model" in limbeck("compare", second, other).done().err
    assert "sft on the left, mixed on the right" in limbeck("chat", second, "--before", "sft", stdin="").done().err


@pytest.mark.slow
def test_three_rounds_killed_again_and_again_end_as_rounds_that_never_were(
    finished: Path, run: Path, recipe: Path
) -> None:
    undisturbed = Path(shutil.copytree(finished, run.parent / "undisturbed"))
    three = settings(*ALL, "rounds.count=3")
    limbeck("run", recipe, "--out", undisturbed, *three).done()
    see_chain(undisturbed, 3)
    shutil.rmtree(run / "rounds")
    for point, number in KILLS:
        with process(point, number, "SIGKILL", "run", recipe, "--out", run, *three) as killed:
            _, err = killed.communicate(timeout=600)
        assert killed.returncode == -signal.SIGKILL, (point, err)
    last = limbeck("run", recipe, "--out", run, *three).done()
    assert last.ran == ["rounds", "report"]
    assert left(run) == left(undisturbed)
    assert not list(run.rglob(IN_PROGRESS))


def test_every_round_orders_pairs_by_the_runs_own_seed(finished: Path) -> None:
    first, second = (load_recipe(folder / "recipe.toml") for folder in (finished, finished / "rounds" / "2"))
    assert first.seed != second.seed
    assert stream_seed(first) == stream_seed(second) == first.seed


def test_a_round_with_too_few_pairs_ends_the_rounds_and_not_the_run(run: Path, recipe: Path) -> None:
    """The student fails fewer prompts of the second round than its arm asks for."""
    shutil.rmtree(run / "rounds" / "2")
    wanted = settings(*ALL, "arms={mixed={on_policy=8}}", "mix.heldout_pairs=1", "rounds.count=2")
    made = rounds.round_recipe
    with patch.object(rounds, "round_recipe", lambda own, number: _scarce(made(own, number))):
        done = limbeck("run", recipe, "--out", run, *wanted).done()
    assert "no further round: the arm 'mixed' asks for 8 on_policy pairs" in done.err
    record = RoundsRecord.model_validate_json((run / "rounds" / "rounds.json").read_text())
    assert (record.stopped, len(record.rounds)) == ("too_few", 1)
    assert "there were fewer pairs than the arm asks for" in record.why


def _scarce(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"mine": recipe.mine.model_copy(update={"max_prompts": 6})})
