"""Live trackers: every point once, whatever fails; training neither waits nor stops; nothing in a recipe goes stale."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from limbeck import pipeline, tracking
from limbeck.errors import RecipeError
from limbeck.recipe import Recipe
from limbeck.recipe.part import deciding_part
from limbeck.recipe.track import Track
from limbeck.records import Metric
from limbeck.store import RecordStream, read_records
from limbeck.tracking import Tracking
from limbeck.tracking.__main__ import tracker_named, without_secrets
from limbeck.tracking.fake import FILE, FakeTracker
from limbeck.tracking.following import follow, growing
from limbeck.tracking.protocol import Taken, TrackedRun
from limbeck.tracking.to_wandb import logged_in

Point = tuple[int, str]


def metric(step: int, split: str = "train", **values: float) -> Metric:
    return Metric.model_validate({"step": step, "split": split, "values": values or {"loss": 1 / (step + 1)}})


def run_in(folder: Path, **more: float) -> TrackedRun:
    settings = {"learning_rate": 1e-3}
    return TrackedRun.model_validate(
        {"project": "p", "name": "tiny/dpo/human", "folder": folder, "settings": settings, **more}
    )


def shown(folder: Path) -> list[list[Metric]]:
    """What the fake took, one list a tracker run."""
    return [read_records(path, Metric) for path in sorted(folder.glob(f"tiny/dpo/human/*/{FILE}"))]


def names(points: Sequence[Metric]) -> list[Point]:
    return [(point.step, point.split) for point in points]


def handed(folder: Path, points: Sequence[Metric], fault: str = "") -> list[str]:
    """Hand points over in this process; what the user would be told."""
    told: list[str] = []
    follow(FakeTracker(fault), run_in(folder), points, folder / "taken", lambda error: told.append(str(error)))
    return told


CURVE = [metric(0, "validation"), metric(1), metric(2), metric(2, "validation"), metric(3)]


def test_every_point_arrives_once_with_all_its_values(tmp_path: Path) -> None:
    curve = [*CURVE, metric(4, "validation", loss=0.5, **{"loss/human": 0.25, "accuracy": float("inf")})]
    assert handed(tmp_path, curve) == []
    assert shown(tmp_path) == [curve]


def test_a_resumed_run_goes_on_in_the_same_tracker_run_and_repeats_no_point(tmp_path: Path) -> None:
    handed(tmp_path, CURVE)
    again = [*CURVE[:2], metric(2), metric(2, "validation"), metric(3), metric(4), metric(4, "validation")]
    handed(tmp_path, again)
    (taken,) = shown(tmp_path)
    assert names(taken) == [*names(CURVE), (4, "train"), (4, "validation")]


def test_a_point_that_was_written_and_not_handed_over_is_handed_over_by_the_resumed_run(tmp_path: Path) -> None:
    handed(tmp_path, CURVE[:2])
    handed(tmp_path, CURVE)
    assert shown(tmp_path) == [CURVE]


def test_a_unit_that_runs_anew_begins_a_tracker_run_of_its_own(tmp_path: Path) -> None:
    handed(tmp_path, CURVE)
    (tmp_path / "taken").unlink()  # a stale unit's folder is emptied
    handed(tmp_path, CURVE)
    assert shown(tmp_path) == [CURVE, CURVE]


def test_points_that_a_tracker_refuses_are_told_once_and_the_others_still_arrive(tmp_path: Path) -> None:
    assert handed(tmp_path, CURVE, "log") == ["no way to log"]
    assert [names(points) for points in shown(tmp_path)] == [[(0, "validation"), (2, "train"), (2, "validation")]]
    lines = read_records(tmp_path / "taken", Taken)
    assert {line.step: line.problem for line in lines if line.problem} == {1: "ConnectionError", 3: "ConnectionError"}


def test_a_tracker_that_cannot_start_is_asked_nothing_more_and_catches_up_when_the_run_is_resumed(
    tmp_path: Path,
) -> None:
    assert handed(tmp_path, CURVE, "start") == ["no way to start"]
    assert [line.what for line in read_records(tmp_path / "taken", Taken)] == ["start"]
    assert handed(tmp_path, CURVE) == []
    assert shown(tmp_path) == [CURVE]


def test_a_line_that_is_still_being_written_is_left_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    line = metric(1).model_dump_json().encode() + b"\n"

    def looks() -> Iterator[bool]:
        for part in (line[:10], line[10:] + line[:5]):
            with path.open("ab") as file:
                file.write(part)
            yield False
        yield True

    path.touch()
    look = looks()
    with path.open("rb") as file:
        assert list(growing(file, lambda: next(look))) == [metric(1)]


def trained(tracking_: Tracking, folder: Path, points: Sequence[Metric]) -> float:
    """Seconds that it took to write points while they were followed."""
    started = time.monotonic()
    path = folder / "metrics.jsonl"
    with RecordStream(path, Metric) as metrics, tracking_.following(path):
        for point in points:
            metrics.append(point)
    return time.monotonic() - started


def test_a_tracker_in_its_own_process_takes_what_is_written(tmp_path: Path) -> None:
    follows = Tracking(("fake",), run_in(tmp_path / "shown"), wait_seconds=60)
    trained(follows, tmp_path, CURVE)
    assert shown(tmp_path / "shown") == [CURVE]
    assert follows.facts() == {"fake": {"handed_over": 5, "missed": 0, "problem": None}}


def test_a_problem_of_an_attempt_that_was_resumed_well_is_no_problem_of_the_run(tmp_path: Path) -> None:
    trained(Tracking(("fake:start",), run_in(tmp_path / "shown"), wait_seconds=60), tmp_path, CURVE)
    follows = Tracking(("fake",), run_in(tmp_path / "shown"), wait_seconds=60)
    trained(follows, tmp_path, [])
    assert follows.facts() == {"fake": {"handed_over": 5, "missed": 0, "problem": None}}


@pytest.mark.parametrize(
    ("fault", "arrived", "problem", "words"),
    [
        ("log", 3, "ConnectionError", "fake:log fails (ConnectionError: no way to log)"),
        ("start", 0, "ConnectionError", "fake:start fails (ConnectionError: no way to start)"),
        ("finish", 5, "ConnectionError", "fake:finish fails (ConnectionError: no way to finish)"),
        ("die", 2, "its process ended with 3", "fake:die fails (its process ended with 3)"),
    ],
)
def test_a_failing_tracker_ends_no_training_and_what_it_missed_is_said_once_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, arrived: int, problem: str, words: str
) -> None:
    follows = Tracking((f"fake:{fault}",), run_in(tmp_path / "shown"), wait_seconds=60)
    trained(follows, tmp_path, CURVE)
    missed = len(CURVE) - arrived
    assert follows.facts() == {f"fake:{fault}": {"handed_over": arrived, "missed": missed, "problem": problem}}
    said = capsys.readouterr().err
    assert said.splitlines() == [f"  dpo/human: {words}; training goes on, and the manifest counts what it misses"]


def wait_until(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_a_tracker_that_hangs_is_not_waited_for_and_ends_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_in(tmp_path, longest_end_seconds=0.1)
    follows = Tracking(("fake:hang",), run, wait_seconds=0.05)
    assert trained(follows, tmp_path, CURVE) < 30
    assert follows.facts()["fake:hang"] == {"handed_over": 0, "missed": 5, "problem": "it had not ended"}
    assert "fake:hang has not taken everything yet" in capsys.readouterr().err
    wait_until(lambda: follows.facts()["fake:hang"]["problem"] == "its process ended with 4")


def test_what_a_killed_training_had_written_still_arrives(tmp_path: Path) -> None:
    code = """if True:
        import os, sys
        from pathlib import Path
        import test_tracking as t
        follows = t.Tracking(("fake",), t.run_in(Path(sys.argv[1]) / "shown"))
        path = Path(sys.argv[1]) / "metrics.jsonl"
        with t.RecordStream(path, t.Metric) as metrics, follows.following(path):
            for point in t.CURVE:
                metrics.append(point)
            os.kill(os.getpid(), 9)
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in (str(Path(__file__).parent), *sys.path))}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    assert done.returncode == -9
    wait_until(lambda: [len(points) for points in shown(tmp_path / "shown")] == [len(CURVE)])


def test_an_error_in_training_is_not_held_up_by_trackers(tmp_path: Path) -> None:
    follows = Tracking(("fake:hang",), run_in(tmp_path, longest_end_seconds=0.1), wait_seconds=60)
    (tmp_path / "metrics.jsonl").touch()
    started = time.monotonic()
    with pytest.raises(KeyError), follows.following(tmp_path / "metrics.jsonl"):
        raise KeyError
    assert time.monotonic() - started < 30


def test_a_run_is_called_by_recipe_and_unit_and_its_files_lie_in_the_run_folder(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"name": "mine", "seed": 7, "track": {"to": ["tensorboard"], "project": "p"}})
    unit = tmp_path / "mine" / "dpo" / "human"
    follows = Tracking.of(recipe, unit, "dpo/human", {"beta": 0.1})
    assert (follows.run.name, follows.run.project) == ("mine/dpo/human", "p")
    assert follows.run.folder == tmp_path / "mine" / "track"
    assert follows.run.settings == {"student": "smollm2-135m", "seed": 7, "beta": 0.1}
    assert Tracking.of(recipe, unit.parent.parent / "sft", "sft", {}).run.folder == tmp_path / "mine/track"
    elsewhere = recipe.model_copy(update={"track": Track(folder=str(tmp_path / "all"))})
    assert Tracking.of(elsewhere, unit, "dpo/human", {}).run.folder == tmp_path / "all"


def test_trackers_decide_nothing_so_that_no_unit_goes_stale_over_them(tmp_path: Path) -> None:
    data = {"name": "x", "corpus": {"tasks": {}}, "arms": {"h": {"random": 4}}}
    plain = Recipe.model_validate(data)
    tracked = Recipe.model_validate(data | {"track": {"to": ["wandb"], "project": "q", "folder": "f"}})
    assert deciding_part(tracked) == deciding_part(plain)
    assert pipeline.units(tracked, tmp_path) == pipeline.units(plain, tmp_path)


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_spent(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not there
    recipe = Recipe.model_validate({"name": "x", "track": {"to": [name]}})
    with pytest.raises(RecipeError, match=rf"^track\.to needs the library '{name}': pip install 'limbeck\[{name}\]'$"):
        pipeline.check(recipe)
    tracking.check_installed(Track())


def test_a_mere_folder_called_like_a_tracker_is_not_taken_for_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(RecipeError, match=r"pip install 'limbeck\[wandb\]'"):
        tracking.check_installed(Track(to=("wandb",)))


def test_a_tracker_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"track\.to names a tracker twice"):
        Track(to=("wandb", "wandb"))


def test_every_tracker_of_a_recipe_has_its_adapter() -> None:
    adapters = {name: type(tracker_named(name)).__name__ for name in ("tensorboard", "trackio", "wandb")}
    assert adapters == {"tensorboard": "TensorBoard", "trackio": "Trackio", "wandb": "Wandb"}


def test_what_a_library_says_is_shown_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    assert without_secrets("refused:\n https://x/?key=s3cret") == "refused: https://x/?key=***"


def test_wandb_is_online_only_where_the_user_has_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not logged_in()
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n  login user\n  password key\n", encoding="utf-8")
    assert logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    assert not logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert logged_in()


def test_a_file_of_what_was_taken_holds_no_words_of_a_library(tmp_path: Path) -> None:
    handed(tmp_path, CURVE, "start")
    assert json.loads((tmp_path / "taken").read_text())["problem"] == "ConnectionError"
