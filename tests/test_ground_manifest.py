"""Freshness by digest, and units of work that resume what an interrupted run left."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import InputError, RunFolderError
from limbeck.manifest import (
    IN_PROGRESS,
    MANIFEST,
    Manifest,
    StageResult,
    _prepare,
    carry_out,
    read_manifest,
    unit_key,
    why_stale,
)
from limbeck.store import atomic_folder, digest_path, write_text


class KilledError(Exception):
    """Stands for the end of the process."""


class Stage:
    """A unit of work that writes its input's text, counts its runs, and may be killed half way."""

    def __init__(self, root: Path, keep: tuple[str, ...] = ()) -> None:
        self.source, self.folder, self.keep = root / "source", root / "unit", keep
        self.runs, self.killed, self.found = 0, False, [""]
        write_text(self.source, "one")

    def work(self, out: Path) -> StageResult:
        self.runs += 1
        self.found = sorted(path.name for path in out.iterdir())
        write_text(out / "partial", "x")
        if self.killed:
            raise KilledError
        write_text(out / "result", self.source.read_text())
        return StageResult(counts_out={"rows": 1})

    def carry_out(self, part: Mapping[str, Any] | None = None, seed: int = 1) -> Manifest:
        return carry_out(
            unit="stage",
            folder=self.folder,
            inputs={"source": self.source},
            recipe_part=part or {"beta": 0.1},
            seed=seed,
            keep=self.keep,
            work=self.work,
        )

    def why_stale(self, part: Mapping[str, Any] | None = None, seed: int = 1) -> str | None:
        return why_stale(
            self.folder, unit_key("stage", part or {"beta": 0.1}, seed, {"source": digest_path(self.source)})
        )


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_a_unit_whose_input_lies_in_its_own_folder_is_refused_and_the_input_stays(tmp_path: Path) -> None:
    stage = Stage(tmp_path, keep=("paid",))
    stage.carry_out()
    stage.source = stage.folder / "result"
    with pytest.raises(RunFolderError, match=r"source: .*result lies in .*unit, which would be emptied first"):
        stage.carry_out({"beta": 0.2})
    assert stage.source.read_text() == "one"
    stage.source = stage.folder
    with pytest.raises(RunFolderError, match="give --out another folder"):
        stage.carry_out()
    assert read_manifest(stage.folder) is not None
    assert stage.runs == 1
    stage.source = stage.folder / "paid"  # what is kept is not removed, and may be read
    write_text(stage.source, "two")
    assert stage.carry_out().result.counts_out == {"rows": 1}


def test_the_same_key_is_fresh_and_not_run_again(stage: Stage) -> None:
    assert stage.why_stale() == "not run yet"
    first = stage.carry_out()
    assert stage.why_stale() is None
    assert stage.carry_out() == first
    assert stage.runs == 1
    assert read_manifest(stage.folder) == first
    assert first.result.counts_out == {"rows": 1}
    assert sorted(first.outputs) == ["partial", "result"]
    assert not (stage.folder / IN_PROGRESS).exists()


def test_a_touched_but_unchanged_input_stays_fresh(stage: Stage) -> None:
    stage.carry_out()
    write_text(stage.source, "one")
    assert stage.why_stale() is None


@pytest.mark.parametrize("what", ["input", "part", "seed"])
def test_another_input_recipe_part_or_seed_is_stale(stage: Stage, what: str) -> None:
    stage.carry_out()
    if what == "input":
        write_text(stage.source, "one more")
    changed: dict[str, Any] = {"part": {"part": {"beta": 0.2}}, "seed": {"seed": 2}}.get(what, {})
    assert stage.why_stale(**changed) == "the recipe or an input changed"
    stage.carry_out(**changed)
    assert stage.runs == 2
    assert stage.found == [IN_PROGRESS]
    assert stage.why_stale(**changed) is None


def test_an_edited_or_missing_output_is_stale(stage: Stage) -> None:
    stage.carry_out()
    (stage.folder / "result").write_text("edited by hand")
    assert stage.why_stale() == "result was changed by hand"
    (stage.folder / "result").unlink()
    assert stage.why_stale() == "result is missing"
    stage.carry_out()
    assert stage.why_stale() is None
    assert (stage.folder / "result").read_text() == "one"


def test_an_interrupted_unit_of_the_same_key_is_handed_over_as_it_is(stage: Stage) -> None:
    stage.killed = True
    with pytest.raises(KilledError):
        stage.carry_out()
    assert stage.why_stale() == "unfinished"
    stage.killed = False
    stage.carry_out()
    assert stage.found == [IN_PROGRESS, "partial"]


def test_temporaries_of_a_killed_process_are_swept_when_the_unit_resumes(stage: Stage) -> None:
    stage.killed = True
    with pytest.raises(KilledError):
        stage.carry_out()
    half = stage.folder / "half"
    with pytest.raises(KilledError), atomic_folder(half) as temporary:
        shutil.copytree(temporary, stage.folder / f"{temporary.name}.unfinished")  # what a kill would leave
        raise KilledError
    stage.killed = False
    stage.carry_out()
    assert stage.found == [IN_PROGRESS, "partial"]


def test_a_marker_beside_a_manifest_does_not_make_a_changed_output_resumable(stage: Stage) -> None:
    stage.carry_out()
    write_text(stage.folder / "result", "by hand")
    (stage.folder / "model").mkdir()
    write_text(stage.folder / IN_PROGRESS, unit_key("stage", {"beta": 0.1}, 1, {"source": digest_path(stage.source)}))
    stage.carry_out()
    assert stage.found == [IN_PROGRESS]
    assert (stage.folder / "result").read_text() == "one"


def test_an_interrupted_unit_of_another_key_is_wiped(stage: Stage) -> None:
    stage.killed = True
    with pytest.raises(KilledError):
        stage.carry_out({"beta": 0.1})
    (stage.folder / "model").mkdir()
    (stage.folder / "model" / "weights").write_text("x")
    stage.killed = False
    stage.carry_out({"beta": 0.2})
    assert stage.found == [IN_PROGRESS]


def test_a_wiped_unit_keeps_what_was_paid_for_and_does_not_count_it_as_an_output(tmp_path: Path) -> None:
    stage = Stage(tmp_path, keep=("store.sqlite",))
    stage.carry_out({"beta": 0.1})
    (stage.folder / "store.sqlite").write_text("bought replies")
    assert "store.sqlite" not in stage.carry_out({"beta": 0.2}).outputs
    assert stage.found == [IN_PROGRESS, "store.sqlite"]
    (stage.folder / "store.sqlite").write_text("and more of them")
    assert stage.why_stale({"beta": 0.2}) is None


def test_a_killed_rerun_is_not_taken_for_the_finished_run_before_it(stage: Stage) -> None:
    stage.carry_out({"beta": 0.1})
    stage.killed = True
    with pytest.raises(KilledError):
        stage.carry_out({"beta": 0.2})
    assert stage.why_stale({"beta": 0.1}) == "unfinished"
    assert stage.why_stale({"beta": 0.2}) == "unfinished"


def test_a_missing_input_is_an_error_before_anything_is_removed(stage: Stage) -> None:
    stage.carry_out()
    stage.source.unlink()
    with pytest.raises(InputError, match="source does not exist"):
        stage.carry_out()
    assert (stage.folder / "result").is_file()


def test_a_damaged_manifest_says_what_to_delete(stage: Stage) -> None:
    stage.carry_out()
    for damage in (b'{"unit": "stage"}', b"\xff"):
        (stage.folder / MANIFEST).write_bytes(damage)
        with pytest.raises(RunFolderError, match=r"manifest\.json is damaged .*; delete the folder .* and run again"):
            stage.why_stale()


def test_a_clearing_that_was_interrupted_is_taken_up_and_is_no_work_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "unit"
    folder.mkdir()
    for name in ("a.jsonl", "b.jsonl", MANIFEST):
        (folder / name).write_text("old")
    unlink, seen = Path.unlink, list[str]()

    def dies(path: Path, **words: bool) -> None:
        if len(seen) == 1:
            raise KeyboardInterrupt
        seen.append(path.name)
        unlink(path, **words)

    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
        interrupted.setattr(Path, "unlink", dies)
        _prepare(folder, "key", ())
    assert (folder / MANIFEST).exists()
    _prepare(folder, "key", ())
    assert [path.name for path in folder.iterdir()] == [IN_PROGRESS]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.txt").write_text("x")
    with pytest.raises(RunFolderError, match=r"holds mine\.txt, which no run wrote there"):
        _prepare(tmp_path / "own", "key", ())
