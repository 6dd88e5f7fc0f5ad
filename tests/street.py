"""The street under test: `limbeck` in this process or in one of its own, on a tiny random student. Helpers of tests."""

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from tiny_models import IM_END, tiny_folder, tiny_tokenizer
from transformers import AutoModelForCausalLM

from limbeck.cli import main
from limbeck.lm import micro_batch
from limbeck.manifest import MANIFEST
from limbeck.recipe.training import Optimisation
from limbeck.records import Metric
from limbeck.store import read_records

SMALL = ("model.device=cpu", "model.dtype=fp32")
SETTINGS = """
name = "tiny"
[model]
student = {student}
device = "cpu"
dtype = "fp32"
[corpus.tasks]
families = ["chain_sum", "leg_counting"]
sft = 8
pool = 12
fresh = 12
validation = 4
test = 8
transfer = 3
[corpus.chat]
train = 6
heldout = 4
max_new_tokens = 12
[sft]
epochs = 2
batch_size = 4
validate_every_steps = 1
checkpoint_every_minutes = 1e-6
[mine]
max_new_tokens = 16
[mix]
heldout_pairs = 1
[dpo]
epochs = 2
batch_size = 2
validate_every_steps = 1
checkpoint_every_minutes = 1e-6
[evaluate]
max_new_tokens = 16
[arms.random]
random = 4
[arms.mixed]
random = 2
zero_shot = 2
few_shot = 2
on_policy = 2
"""
# Ends or stops the process at the Nth time that a file whose path ends so is opened or renamed to: no timing, no luck.
_DRIVER = """
import os, signal, sys
point, number, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
seen = 0
def watch(event, arguments):
    global seen
    if event in ("open", "os.rename"):
        path = arguments[0 if event == "open" else 1]
        if isinstance(path, (str, os.PathLike)) and str(path).endswith(point):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), getattr(signal, name))
sys.addaudithook(watch)
# A shell starts its background jobs with Ctrl-C ignored, and so would be every process under a test run there.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["limbeck", *sys.argv[4:]]
from limbeck.cli import main
main()
"""


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one sentence of an error, checked to be one: a last line, no traceback, no second complaint."""
        lines = self.err.strip().splitlines()
        assert self.code == 2, self
        assert "Traceback" not in self.err
        assert [line for line in lines if line.startswith("limbeck: ")] == lines[-1:], self.err
        return lines[-1].removeprefix("limbeck: ")

    @property
    def ran(self) -> list[str]:
        """Units that were run, in order."""
        return [line.partition(":")[0] for line in self.err.splitlines() if ": done in " in line]

    def done(self) -> "Outcome":
        """Itself, checked to be a success."""
        assert self.code == 0, self.err
        return self


def limbeck(*arguments: object, stdin: str = "") -> Outcome:
    """Run a command in this process, through the entry point that the installed script calls."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    words = ["limbeck", *map(str, arguments)]
    with (
        patch.object(sys, "argv", words),
        patch.object(sys, "stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def process(point: str, number: int, signal_name: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a command in a process of its own that sends itself a signal at the given point."""
    return subprocess.Popen(
        [sys.executable, "-c", _DRIVER, point, str(number), signal_name, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def student(folder: Path) -> Path:
    """A random model that ends its turn every now and then, so that some replies are whole and some are cut off."""
    tiny_folder(folder, max_position_embeddings=2048)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        network.get_output_embeddings().weight[tiny_tokenizer().convert_tokens_to_ids(IM_END)] *= 2.5
    network.save_pretrained(folder)
    return folder


def write_tiny_recipe(path: Path, base: Path) -> Path:
    """Write the recipe of a whole run that takes seconds."""
    path.write_text(SETTINGS.format(student=json.dumps(str(base))), encoding="utf-8")
    return path


def settings(*overrides: str) -> list[str]:
    """Overrides as options of a command."""
    return [word for override in overrides for word in ("--set", override)]


def write_lines(path: Path, rows: Sequence[object]) -> Path:
    """Write JSON Lines as a user would."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def outputs(folder: Path) -> dict[str, dict[str, object]]:
    """What every unit left, as digests; without what tells the time (the report, and tokens a second in curves)."""
    found = {}
    for path in folder.rglob(MANIFEST):
        unit = path.parent.relative_to(folder).as_posix()
        if unit != "report":
            found[unit] = json.loads(path.read_text())["outputs"]
        if "metrics.jsonl" in found.get(unit, {}):
            found[unit]["metrics.jsonl"] = curve(path.parent)
    return found


def curve(folder: Path) -> list[Metric]:
    """A training curve without its tokens a second."""
    points = read_records(folder / "metrics.jsonl", Metric)
    return [
        point.model_copy(update={"values": {k: v for k, v in point.values.items() if k != "tokens_per_second"}})
        for point in points
    ]


def settled_to(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every training that leaves `micro_batch_tokens` open be settled to so many, as a GPU would."""

    def settled(settings: Optimisation, *_: object) -> Optimisation:
        assert settings.micro_batch_tokens == "auto"
        return settings.model_copy(update={"micro_batch_tokens": tokens})

    monkeypatch.setattr(micro_batch, "settled", settled)


def tokens_a_micro_batch(told: str) -> list[int]:
    """What each training said of itself on the console."""
    return [int(found.replace(",", "")) for found in re.findall(r" at ([\d,]+) tokens a micro-batch", told)]
