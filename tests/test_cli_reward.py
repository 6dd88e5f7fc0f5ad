"""`limbeck reward`: from files of pairs to a reward model, its table, and mistakes told in a sentence."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import tiny_classifier, tiny_folder
from typer.testing import CliRunner

from limbeck.cli import app
from limbeck.commands.pair_files import pairs_in
from limbeck.errors import InputError, LimbeckError, ModelError

RUNNER = CliRunner()
FAST = ["--set", "model.device=cpu", "--set", "model.dtype=fp32"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of each test's own."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))


def reward_bench(path: Path, number: int = 30) -> Path:
    """A file with RewardBench's fields."""
    rows = [
        {
            "prompt": f"Shall we do {n}?",
            "chosen": f"Yes, {n}",
            "chosen_model": "a",
            "rejected": f"No, never {n}",
            "rejected_model": "b",
            "subset": "chat" if n % 2 else "safety",
            "id": n,
        }
        for n in range(number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def hh(path: Path, number: int = 10) -> Path:
    """A file with HH-RLHF's two texts."""
    rows = [
        {f: f"\n\nHuman: Why {n}?\n\nAssistant: {said}" for f, said in (("chosen", "So."), ("rejected", "No idea."))}
        for n in range(number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def said(*words: str) -> str:
    found = RUNNER.invoke(app, ["reward", *words], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return " ".join(found.stdout.split())


def failure(*words: str) -> LimbeckError:
    with pytest.raises(LimbeckError) as found:
        RUNNER.invoke(app, ["reward", *words], catch_exceptions=False)
    return found.value


def test_pairs_say_which_file_or_subset_they_are_of(tmp_path: Path) -> None:
    found = pairs_in([str(reward_bench(tmp_path / "bench.jsonl", 4)), str(hh(tmp_path / "hh.jsonl", 2))])
    assert [pair.source for pair in found] == ["safety", "chat", "safety", "chat", "hh", "hh"]
    assert found[-1].prompt[0].content == "Why 1?"
    assert (found[-1].chosen, found[-1].rejected) == ("So.", "No idea.")


def test_a_file_without_pairs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "Hi"}\n')
    with pytest.raises(InputError, match="hold no pair of answers"):
        pairs_in([str(path)])


def test_train_then_check_print_accuracy_beside_the_longer_responses(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "base", "qwen2")
    files = ["--pairs", str(reward_bench(tmp_path / "bench.jsonl")), "--pairs", str(hh(tmp_path / "hh.jsonl"))]
    out = tmp_path / "out"
    train = ["train", "--model", str(base), *files, "--out", str(out), *FAST, "--set", "reward.learning_rate=0.003"]
    shown = said(*train)
    assert "longer is chosen" in shown
    assert {"all", "safety", "chat", "hh"} <= set(shown.split())
    assert shown.endswith(str(out / "reward" / "model"))
    again = RUNNER.invoke(app, ["reward", *train], catch_exceptions=False)
    assert "reward: fresh" in again.stderr
    checked = said("check", "--model", str(out / "reward" / "model"), *files, *FAST)
    assert "longer is chosen" in checked
    assert "Calibration: sigmoid(margin) is off by" in checked
    assert " 40 " in checked


def test_a_new_head_is_no_warning_to_the_user(tmp_path: Path) -> None:
    base, bench = tiny_folder(tmp_path / "base", "qwen2"), reward_bench(tmp_path / "bench.jsonl", 6)
    words = ["reward", "train", "--model", str(base), "--pairs", str(bench), "--out", str(tmp_path / "out"), *FAST]
    done = subprocess.run([sys.executable, "-m", "limbeck.cli", *words], capture_output=True, text=True, check=True)
    assert "reward: done in" in done.stderr
    assert "LOAD REPORT" not in done.stderr + done.stdout


def test_files_of_one_name_to_train_on_and_to_check_by_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    train, other = reward_bench(tmp_path / "pairs.jsonl"), hh(tmp_path / "other" / "pairs.jsonl")
    base = str(tiny_folder(tmp_path / "base", "qwen2"))
    files = ["--pairs", str(train), "--check-pairs", str(other)]
    shown = said("train", "--model", base, *files, "--out", str(tmp_path / "out"), *FAST)
    assert {"safety", "chat", "pairs"} <= set(shown.split())


def test_pairs_over_the_limit_are_counted_by_the_check(tmp_path: Path) -> None:
    model = tiny_classifier(tmp_path / "model")
    bench = reward_bench(tmp_path / "bench.jsonl", 6)
    with bench.open("a") as file:
        file.write(json.dumps({"prompt": "Hi", "chosen": "long " * 600, "rejected": "no", "subset": "chat"}) + "\n")
    checked = said("check", "--model", str(model), "--pairs", str(bench), *FAST)
    assert "1 pairs could not be scored: 1 x over 512 tokens" in checked


def test_a_model_that_is_no_reward_model_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    bench = str(reward_bench(tmp_path / "bench.jsonl"))
    two = tiny_classifier(tmp_path / "two", num_labels=2)
    error = failure("check", "--model", str(two), "--pairs", bench)
    assert isinstance(error, ModelError)
    assert "2 labels" in str(error)
    error = failure("train", "--model", str(two), "--pairs", bench, "--out", str(tmp_path / "two_out"), *FAST)
    assert "is a classifier with 2 labels; a reward head goes on a base or chat model" in str(error)
    bare = tiny_folder(tmp_path / "bare", variant="no_template")
    error = failure("train", "--model", str(bare), "--pairs", bench, "--out", str(tmp_path / "out"), *FAST)
    assert "no chat template" in str(error)
