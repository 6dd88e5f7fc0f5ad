"""A run that is killed, interrupted, or not alone in its folder."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from street import limbeck, outputs, process, student, write_tiny_recipe

from limbeck.manifest import IN_PROGRESS, MANIFEST, RESUMED_FROM

# Each continues where the one before it was killed: before there is a recipe in the folder; in the middle of sampling;
# after a checkpoint; when a trained model takes its place; between raw replies and pairs; before a manifest stands.
KILLS = (
    ("run/recipe.toml", 1),
    ("retain/replies.jsonl", 1),
    ("sft/.checkpoint.pt", 3),
    ("sft/model", 1),
    ("teach/zero_shot.jsonl", 1),
    ("dpo/random/.checkpoint.pt", 4),
    (f"dpo/mixed/{MANIFEST}", 1),
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupted")
    return write_tiny_recipe(folder / "recipe.toml", student(folder / "base"))


@pytest.fixture(scope="module")
def undisturbed(recipe: Path) -> Path:
    folder = recipe.parent / "undisturbed"
    limbeck("run", recipe, "--out", folder).done()
    return folder


def test_a_run_killed_again_and_again_ends_as_one_that_never_was(
    recipe: Path, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    for point, number in KILLS:
        with process(point, number, "SIGKILL", "run", recipe, "--out", folder) as killed:
            _, err = killed.communicate(timeout=120)
        assert killed.returncode == -signal.SIGKILL, (point, err)
        unit = Path(point).parent
        assert not (folder / unit / MANIFEST).exists(), point
    checkpoint = folder / "dpo/mixed/.checkpoint.pt"  # what was trained is not lost while outputs are hashed
    assert torch.load(checkpoint, weights_only=True)["progress"]["step"] > 0
    last = limbeck("run", recipe, "--out", folder).done()
    assert last.ran[0] == "dpo/mixed"
    assert outputs(folder) == outputs(undisturbed)
    assert not list(folder.rglob(IN_PROGRESS))
    assert not list(folder.rglob(RESUMED_FROM))


def test_one_process_at_a_time_and_ctrl_c_says_how_to_go_on(recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    shutil.rmtree(folder / "dpo" / "mixed")
    with process("dpo/mixed/metrics.jsonl", 1, "SIGSTOP", "run", recipe, "--out", folder) as first:
        os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOWAIT)
        second = limbeck("run", recipe, "--out", folder)
        assert second.complaint.startswith(f"another process is at work in {folder}; wait for it")
        assert second.ran == []
        first.send_signal(signal.SIGINT)
        first.send_signal(signal.SIGCONT)
        _, err = first.communicate(timeout=120)
    assert first.returncode == 130
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if line.startswith("limbeck: ")]
    assert said == ["limbeck: interrupted; what was finished is kept, and the same command goes on from there"]
    limbeck("run", recipe, "--out", folder).done()
    assert outputs(folder) == outputs(undisturbed)
