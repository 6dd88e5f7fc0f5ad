"""Judges of a stage alone: what cannot judge is refused before anything is sampled, another judge judges anew."""

import shutil
from pathlib import Path

import pytest
from street import SMALL, Outcome, limbeck, outputs, settings, student, write_lines
from tiny_models import tiny_classifier

from limbeck.records import Judgement
from limbeck.store import read_records

SHORT = settings(*SMALL, "evaluate.max_new_tokens=6")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student(tmp_path_factory.mktemp("judges") / "base")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "prompts.jsonl", [{"prompt": f"Say {n}, please."} for n in range(3)])


def evaluate(base: Path, prompts: Path, out: Path, judge: str, *more: object) -> Outcome:
    return limbeck("evaluate", "--model", base, "--prompts", prompts, "--judge", judge, "--out", out, *SHORT, *more)


@pytest.mark.parametrize(
    ("judge", "named", "complaint"),
    [
        ("local", None, "the judge 'local' has no reward model here: name a folder or a hub id with --set judges"),
        ("local", "no/such/folder", "no model 'no/such/folder': expected a local folder"),
        ("pairwise", None, "--judge pairwise compares two replies, and this is one model's"),
    ],
)
def test_a_judge_that_cannot_judge_is_refused_before_the_folder_is_taken(
    base: Path, prompts: Path, tmp_path: Path, judge: str, named: str | None, complaint: str
) -> None:
    more = [] if named is None else ["--set", f"judges.local.model={named}"]
    assert evaluate(base, prompts, tmp_path / "out", judge, *more).complaint.startswith(complaint)
    assert not (tmp_path / "out").exists()


def test_a_judge_that_cannot_judge_is_refused_beside_an_older_result_too(
    base: Path, prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    named = tiny_classifier(tmp_path / "judge")
    evaluate(base, prompts, out, "local", "--set", f"judges.local.model={named}").done()
    before = outputs(out), (out / "recipe.toml").read_bytes()
    complaint = evaluate(base, prompts, out, "local").complaint
    assert complaint.startswith("the judge 'local' has no reward model here")
    assert (outputs(out), (out / "recipe.toml").read_bytes()) == before


def test_another_reward_model_in_the_named_folder_judges_anew(base: Path, prompts: Path, tmp_path: Path) -> None:
    def scores() -> tuple[list[str], list[float | None]]:
        outcome = evaluate(base, prompts, tmp_path / "out", "local", "--set", f"judges.local.model={named}").done()
        folder = Path(outcome.out.splitlines()[-1])
        return outcome.ran, [each.score for each in read_records(folder / "judgements_local.jsonl", Judgement)]

    named = tiny_classifier(tmp_path / "judge")
    _, before = scores()
    assert scores() == ([], before)
    shutil.rmtree(named)
    tiny_classifier(named, initializer_range=0.3)
    ran, after = scores()
    assert ran == ["evaluate/model"]
    assert after != before
