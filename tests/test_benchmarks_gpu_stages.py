"""The measurement of a first run on a GPU, on a model of two layers here: each stage runs and is counted."""

import json
from pathlib import Path

import pytest

from benchmarks.gpu_stages import SMALL, main


def test_every_stage_is_measured_and_its_figures_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--tiny", "--out", str(tmp_path / "gpu.json")]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    stages = {one["stage"]: one for one in found["stages"]}
    assert list(stages) == ["SFT", "reference pass", "DPO", "sampling"]
    assert (stages["SFT"]["steps"], stages["DPO"]["steps"]) == (SMALL.sft_steps, SMALL.dpo_steps)
    assert all(one["per_second"] > 0 and one["peak_memory_bytes"] > 0 for one in stages.values())
    # Of 4 prompts, 8 tokens each at most.
    assert stages["sampling"]["per_second"] * stages["sampling"]["seconds"] <= 4 * 8 + 0.5
    shown = capsys.readouterr().out
    assert shown.startswith("Shape of Qwen2.5-0.5B, random weights, on a CPU, two layers: no figure of any meaning.")
    assert shown.count("GiB |") == 4
