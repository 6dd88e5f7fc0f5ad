"""A whole run of a tiny student: what it leaves, what a second run does again, and what an edit makes stale."""

import json
import shutil
from pathlib import Path

import pytest
from street import limbeck, outputs, settings, student, write_tiny_recipe

from limbeck.manifest import MANIFEST, read_manifest
from limbeck.records import PromptRow
from limbeck.records.alarms import Alarm
from limbeck.records.verdict import PairLogps, Verdict
from limbeck.store import read_records, write_records

UNITS = [
    "corpus", "retain", "sft", "mine", "teach", "screen", "export", "mix/random", "mix/mixed", "audit",
    "dpo/random", "dpo/mixed",
    "evaluate/base", "evaluate/sft", "evaluate/random", "evaluate/mixed",
    "heldout_pairs/base", "heldout_pairs/sft", "heldout_pairs/random", "heldout_pairs/mixed", "verdict", "report",
]  # fmt: skip
AFTER_DPO = [
    "dpo/random", "dpo/mixed", "evaluate/random", "evaluate/mixed", "heldout_pairs/random", "heldout_pairs/mixed",
    "verdict", "report",
]  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("street")
    return write_tiny_recipe(folder / "recipe.toml", student(folder / "base"))


@pytest.fixture(scope="module")
def finished(recipe: Path) -> Path:
    """A finished run, to be looked at and not to be touched."""
    folder = recipe.parent / "run"
    assert limbeck("run", recipe, "--out", folder).done().ran == UNITS
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, dates and all."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def states(folder: Path) -> dict[str, str]:
    """What `limbeck status` says of each unit: its state, and why."""
    lines = limbeck("status", folder).done().out.splitlines()
    return {line.split()[0]: " ".join(line.split()[1:]) for line in lines}


def test_every_unit_leaves_a_manifest_and_the_last_two_a_verdict_and_a_page(finished: Path) -> None:
    assert [unit for unit in UNITS if not (finished / unit / MANIFEST).is_file()] == []
    verdict = Verdict.model_validate_json((finished / "verdict" / "verdict.json").read_text())
    assert [score.model for score in verdict.scores] == ["base", "sft", "random", "mixed"]
    assert verdict.scores[0].num_replies == 8
    page = (finished / "report" / "report.html").read_text()
    assert verdict.sentence in page


def test_nothing_half_written_is_left_in_a_finished_run(finished: Path) -> None:
    hidden = [path.relative_to(finished).as_posix() for path in finished.rglob(".*")]
    assert hidden == [".lock"]


def test_a_second_run_touches_no_file_and_says_the_verdict_again(finished: Path, recipe: Path) -> None:
    def seen() -> dict[str, tuple[bytes, int]]:
        # The lock holds the number of the last process; everything else is a result.
        files = [path for path in finished.rglob("*") if path.is_file() and path.name != ".lock"]
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    before = seen()
    again = limbeck("run", recipe, "--out", finished).done()
    assert seen() == before
    assert again.ran == []
    sentence = json.loads((finished / "verdict" / "verdict.json").read_text())["sentence"]
    assert sentence in again.out.splitlines()
    assert again.out.splitlines()[-1] == f"Report: {finished / 'report' / 'report.html'}"


def test_every_model_is_asked_about_the_held_out_pairs_of_all_arms_each_once(finished: Path) -> None:
    heldout = {
        json.loads(line)["id"]
        for arm in ("random", "mixed")
        for line in (finished / "mix" / arm / "validation.jsonl").read_text().splitlines()
    }
    for model in ("base", "sft", "random", "mixed"):
        scored = read_records(finished / "heldout_pairs" / model / "pair_logps.jsonl", PairLogps)
        assert sorted(row.id for row in scored) == sorted(heldout)
    # What the SFT model says of them is what DPO was told of its reference.
    reference = read_manifest(finished / "heldout_pairs" / "sft")
    assert reference is not None
    assert reference.result.facts["computed"] == 0


def test_a_new_beta_runs_dpo_and_what_comes_after_it_and_nothing_else(run: Path, recipe: Path) -> None:
    before = outputs(run)
    assert limbeck("run", recipe, "--out", run, "--set", "dpo.beta=0.7").done().ran == AFTER_DPO
    after = outputs(run)
    assert {unit for unit in before if after[unit] != before[unit]} <= set(AFTER_DPO)
    assert after["dpo/mixed"] != before["dpo/mixed"]
    assert states(run) == dict.fromkeys(UNITS, "fresh")


def test_adapters_run_dpo_and_what_comes_after_it_and_so_does_another_rank(run: Path, recipe: Path) -> None:
    for setting in ("dpo.lora={}", "dpo.lora.rank=3", "dpo.lora.target_modules=q_proj"):
        assert limbeck("run", recipe, "--out", run, "--set", setting).done().ran == AFTER_DPO
        assert limbeck("run", recipe, "--out", run, "--set", setting).done().ran == []
    again = limbeck("run", recipe, "--out", run, "--set", "sft.lora={}", "--until", "sft").done()
    assert again.ran == ["sft"]


@pytest.mark.parametrize(
    "setting",
    ["dpo.loss=ipo", "dpo.loss=apo_zero", "dpo.label_smoothing=0.1", "dpo.length_normalised=true", "dpo.scope=step"],
)
def test_every_setting_of_the_preference_loss_makes_dpo_stale(run: Path, recipe: Path, setting: str) -> None:
    ran = limbeck("run", recipe, "--out", run, "--set", setting, "--until", "dpo").done().ran
    assert ran == ["dpo/random", "dpo/mixed"]


def test_a_new_arm_runs_alone_then_verdict_and_report(run: Path, recipe: Path) -> None:
    added = limbeck("run", recipe, "--out", run, *settings("arms.third.random=1", "arms.third.zero_shot=2")).done()
    scored = [f"heldout_pairs/{model}" for model in ("base", "sft", "random", "mixed", "third")]
    assert added.ran == ["mix/third", "audit", "dpo/third", "evaluate/third", *scored, "verdict", "report"]
    # No other model is asked for a pair again that it was asked for before.
    found = read_manifest(run / "heldout_pairs" / "mixed")
    assert found is not None
    assert found.result.facts["computed"] == 0 < found.result.facts["from_cache"]


@pytest.mark.parametrize(
    "setting", ["checkpoint_every_minutes=9", "gradient_checkpointing=on", "micro_batch_tokens=64"]
)
def test_what_changes_nothing_in_what_is_trained_makes_nothing_but_the_report_stale(
    run: Path, recipe: Path, setting: str
) -> None:
    changed = settings(f"sft.{setting}", f"dpo.{setting}")
    assert limbeck("run", recipe, "--out", run, *changed).done().ran == ["report"]


@pytest.mark.parametrize(
    ("setting", "again"), [("evaluate.confidence=0.9", ["audit", "verdict"]), ("evaluate.ties=loss", ["verdict"])]
)
def test_how_replies_are_compared_runs_no_model_again(run: Path, recipe: Path, setting: str, again: list[str]) -> None:
    assert limbeck("run", recipe, "--out", run, "--set", setting).done().ran == [*again, "report"]


def test_somebodys_responses_are_judged_and_every_model_is_compared_with_them(run: Path, recipe: Path) -> None:
    test = read_records(run / "corpus" / "test.jsonl", PromptRow)
    given = run.parent / "given.jsonl"
    lines = [{"prompt": row.prompt[0].content, "response": f"#### {row.problem.answer}"} for row in test if row.problem]
    given.write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = limbeck("run", recipe, "--out", run, "--set", f"evaluate.against={given}").done()
    assert asked.ran == ["evaluate/against", "verdict", "report"]
    verdict = Verdict.model_validate_json((run / "verdict" / "verdict.json").read_text())
    against = {c.candidate: c for c in verdict.comparisons if c.baseline == "against" and c.split == "test"}
    assert against.keys() == {"base", "sft", "random", "mixed"}
    assert all(c.wins == 0 and c.wins + c.ties + c.losses == len(test) for c in against.values())


def test_an_alarm_ends_a_run_before_training_where_the_recipe_says_so(run: Path, recipe: Path) -> None:
    shutil.rmtree(run / "dpo")
    # No phrase in common at all is what no worked solutions have.
    stopped = limbeck("run", recipe, "--out", run, *settings("audit.on_alarm=stop", "audit.max_self_bleu=0"))
    assert stopped.code == 2
    assert "nothing is trained on these pairs, since audit.on_alarm is 'stop'" in stopped.err
    assert not (run / "dpo").exists()
    assert (run / "audit" / "audit.json").is_file()


def test_another_seed_runs_everything(run: Path, recipe: Path) -> None:
    assert limbeck("run", recipe, "--out", run, "--set", "seed=2", "--until", "retain").done().ran == UNITS[:2]
    waiting = {unit: why for unit, why in states(run).items() if why != "fresh"}
    assert list(waiting) == UNITS[2:]


@pytest.mark.parametrize("name", ["mix/mixed/train.jsonl", "sft/model/config.json", "evaluate/sft/replies.jsonl"])
def test_an_output_changed_by_hand_is_made_again_as_it_was(run: Path, recipe: Path, name: str) -> None:
    before = outputs(run)
    path = run / name
    original = path.read_bytes()
    path.write_bytes(original + b"\n")
    unit = next(unit for unit in UNITS if name.startswith(f"{unit}/"))
    file = name.removeprefix(f"{unit}/").partition("/")[0]
    assert states(run)[unit] == f"stale: {file} was changed by hand"
    # What is made again is what was there before, so that nothing that reads it is stale but the report of it all.
    assert limbeck("run", recipe, "--out", run).done().ran in ([unit], [unit, "report"])
    assert path.read_bytes() == original
    assert outputs(run) == before


def test_until_stops_after_a_stage_with_all_its_arms(recipe: Path, finished: Path, run: Path) -> None:
    shutil.rmtree(run / "mix")
    assert limbeck("run", recipe, "--out", run, "--until", "mix").done().ran == ["mix/random", "mix/mixed"]
    assert outputs(run) == outputs(finished)


def test_status_says_what_is_stale_and_what_waits_for_what(run: Path) -> None:
    assert states(run) == dict.fromkeys(UNITS, "fresh")
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace("beta = 0.1", "beta = 0.3"))
    (run / "evaluate" / "base" / "retention.json").unlink()
    found = states(run)
    assert found["dpo/random"] == found["dpo/mixed"] == "stale: the recipe or an input changed"
    assert found["evaluate/mixed"] == "waiting: waits for dpo/mixed"
    assert found["evaluate/base"] == "stale: retention.json is missing"
    waits = "evaluate/base, evaluate/random, evaluate/mixed, heldout_pairs/random, heldout_pairs/mixed"
    assert found["verdict"] == f"waiting: waits for {waits}"
    fresh = [*UNITS[:10], "evaluate/sft", "heldout_pairs/base", "heldout_pairs/sft"]
    assert [unit for unit, why in found.items() if why == "fresh"] == fresh


def test_status_tells_the_alarms_of_the_recipes_units_and_of_no_other(run: Path) -> None:
    alarm = Alarm(about="dpo/x", field="alarms.x", value=1, threshold=0, sentence="It rose.", advice="Look.")
    for arm in ("random", "of_an_earlier_recipe"):
        (run / "dpo" / arm).mkdir(exist_ok=True)
        write_records(run / "dpo" / arm / "alarms.jsonl", [alarm.model_copy(update={"about": f"dpo/{arm}"})])
    out = limbeck("status", run).done().out
    assert out.count("It rose. Look.") == 1
    (run / "audit" / "audit.json").write_text('{"audits": 1}')
    assert "audit.json is damaged: audits: " in limbeck("status", run).complaint


def test_status_of_a_run_that_has_only_begun_names_what_is_missing(recipe: Path, tmp_path: Path) -> None:
    limbeck("run", recipe, "--out", tmp_path / "begun", "--until", "corpus").done()
    found = states(tmp_path / "begun")
    assert found["corpus"] == "fresh"
    assert found["retain"] == "stale: not run yet"
    assert found["mine"] == "waiting: waits for sft"


def test_the_same_recipe_gives_the_same_results_in_another_folder(recipe: Path, finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    limbeck("run", recipe, "--out", other, "--until", "mine").done()
    expected = outputs(finished)
    assert outputs(other) == {unit: expected[unit] for unit in UNITS[:4]}
