"""The training loop: schedule, resuming bit for bit, the best weights, refusal to go on past what is not finite."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import plain_model, ragged_demonstrations, ragged_pairs, tiny_folder, tiny_model
from torch.overrides import TorchFunctionMode

from limbeck.errors import TrainingError
from limbeck.lm.items import Items
from limbeck.lm.load import LanguageModel
from limbeck.lm.objectives import DpoObjective, SftObjective, pair_logps
from limbeck.lm.packing import Item
from limbeck.lm.recompute import layers_of
from limbeck.lm.schedule import learning_rate, num_steps
from limbeck.lm.train import (
    CHECKPOINT,
    METRICS,
    Objective,
    Progress,
    StepLoss,
    Trainer,
    Values,
)
from limbeck.lm.training_result import training_result
from limbeck.recipe.training import Dpo, Sft
from limbeck.records import Metric
from limbeck.store import read_records

SETTINGS = Sft(
    learning_rate=3e-3,
    warmup_steps=2,
    batch_size=3,
    epochs=4,
    micro_batch_tokens=60,
    validate_every_steps=2,
    checkpoint_every_minutes=1000,
)
ALWAYS = SETTINGS.model_copy(update={"checkpoint_every_minutes": 1e-9})
STEPS = 10  # 7 rows, 4 epochs, 3 a step: 28 / 3, the last step ragged
Weights = list[torch.Tensor]


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("start"), "qwen2")


def weights_of(model: LanguageModel) -> Weights:
    return [parameter.detach().clone() for parameter in model.network.parameters()]


def same(left: Weights, right: Weights) -> bool:
    return all(torch.equal(x, y) for x, y in zip(left, right, strict=True))


def sft(settings: Sft = SETTINGS) -> SftObjective:
    rows = ragged_demonstrations()
    return SftObjective(rows, rows[2:5], settings, seed=5)


@dataclass
class Wrapped:
    """An objective with something done before a step, to a loss, or in place of validation."""

    inner: Objective
    before: Callable[[int], None] = lambda _: None
    spoil: Callable[[int, StepLoss], StepLoss] = lambda _, loss: loss
    score: Callable[[LanguageModel], Values] | None = None
    step: int = field(default=0, init=False)

    @property
    def train(self) -> Sequence[Item]:
        return self.inner.train

    @property
    def heldout(self) -> Sequence[Item]:
        return self.inner.heldout

    @property
    def num_rows(self) -> int:
        return self.inner.num_rows

    def rows(self, step: int) -> Sequence[Item]:
        self.step = step
        self.before(step)
        return self.inner.rows(step)

    def losses(self, model: LanguageModel, rows: Sequence[Item]) -> Iterator[StepLoss]:
        for one in self.inner.losses(model, rows):
            yield self.spoil(self.step, one)

    def validate(self, model: LanguageModel) -> Values:
        return self.inner.validate(model) if self.score is None else self.score(model)


def points(out: Path) -> list[tuple[int, str, Values]]:
    """The metrics file without what a clock decides."""
    return [
        (metric.step, metric.split, {k: v for k, v in metric.values.items() if k != "tokens_per_second"})
        for metric in read_records(out / METRICS, Metric)
    ]


def standing(progress: Progress) -> dict[str, object]:
    return {name: value for name, value in vars(progress).items() if name != "seconds"}


def test_the_schedule_by_hand() -> None:
    settings = Sft(learning_rate=0.08, warmup_steps=4)
    assert [learning_rate(settings, step, 12) for step in range(12)] == pytest.approx(
        [0.02, 0.04, 0.06, 0.08, 0.08, 0.07, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01]
    )
    short = [learning_rate(settings, step, 4) for step in range(4)]  # at most half the run warms up
    assert short == pytest.approx([0.04, 0.08, 0.08, 0.04])
    assert learning_rate(settings, 0, 1) == 0.08
    assert learning_rate(Sft(learning_rate=0.08, warmup_steps=0), 0, 2) == 0.08


def test_the_number_of_steps_counts_a_ragged_last_one() -> None:
    assert num_steps(Sft(batch_size=3, epochs=4), 7) == 10
    assert num_steps(Sft(batch_size=7, epochs=2), 7) == 2
    assert num_steps(Sft(batch_size=16, epochs=0.01), 7) == 1
    assert num_steps(Sft(batch_size=3, epochs=4, max_steps=4), 7) == 4
    assert num_steps(Sft(batch_size=3, epochs=4, max_steps=40), 7) == 10


@dataclass(frozen=True)
class Reference:
    """The uninterrupted run, with the weights as they stood before each step, and a score that is best at step 4."""

    weights: Weights
    points: list[tuple[int, str, Values]]
    progress: dict[str, object]
    best: torch.Tensor

    def score(self, model: LanguageModel) -> Values:
        """Distance of the output head from where it stood after step 4."""
        return {"loss": float((model.head.weight - self.best).norm())}


@pytest.fixture(scope="module")
def uninterrupted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    heads: dict[int, torch.Tensor] = {}
    model = tiny_model(folder)
    watching = Wrapped(sft(), before=lambda step: heads.update({step: model.head.weight.detach().clone()}))
    Trainer(model, watching, SETTINGS, tmp_path_factory.mktemp("watched"), "SFT").run()
    reference = Reference([], [], {}, heads[4])
    model, out = tiny_model(folder), tmp_path_factory.mktemp("uninterrupted")
    progress = Trainer(model, Wrapped(sft(), score=reference.score), SETTINGS, out, "SFT").run()
    return Reference(weights_of(model), points(out), standing(progress), heads[4])


def test_the_best_weights_by_validation_are_returned(uninterrupted: Reference) -> None:
    assert uninterrupted.progress["best_step"] == 4
    assert uninterrupted.progress["step"] == STEPS
    assert torch.equal(uninterrupted.weights[0], uninterrupted.best)  # tied: the first weight is the head


def test_metrics_hold_every_step_and_every_validation(uninterrupted: Reference) -> None:
    splits = {
        kind: [step for step, split, _ in uninterrupted.points if split == kind] for kind in ("train", "validation")
    }
    assert splits == {"train": list(range(1, 11)), "validation": [0, 2, 4, 6, 8, 10]}


@pytest.mark.parametrize(("saved_at", "killed_at"), [(1, 3), (3, 6), (5, 6), (8, 9), (6, 6)])
def test_a_killed_run_resumes_to_the_uninterrupted_one_bit_for_bit(
    folder: Path, tmp_path: Path, uninterrupted: Reference, saved_at: int, killed_at: int
) -> None:
    """The checkpoint may be older than the kill; the best weights may lie before it or in the future that was lost."""

    def die(step: int) -> None:
        if step == saved_at:
            trainer.save()
        if step == killed_at:
            raise KilledError

    trainer = Trainer(
        tiny_model(folder), Wrapped(sft(), before=die, score=uninterrupted.score), SETTINGS, tmp_path, "SFT"
    )
    with pytest.raises(KilledError):
        trainer.run()
    model = tiny_model(folder)
    progress = Trainer(model, Wrapped(sft(), score=uninterrupted.score), SETTINGS, tmp_path, "SFT").run()
    assert same(weights_of(model), uninterrupted.weights)
    assert points(tmp_path) == uninterrupted.points
    assert standing(progress) == uninterrupted.progress


def test_a_run_that_checkpoints_at_every_step_may_be_killed_at_every_step(
    folder: Path, tmp_path: Path, uninterrupted: Reference
) -> None:
    for killed_at in range(1, STEPS):

        def die(step: int, at: int = killed_at) -> None:
            if step == at:
                raise KilledError

        dying = Wrapped(sft(), before=die, score=uninterrupted.score)
        with pytest.raises(KilledError):
            Trainer(tiny_model(folder), dying, ALWAYS, tmp_path, "SFT").run()
    model = tiny_model(folder)
    progress = Trainer(model, Wrapped(sft(), score=uninterrupted.score), ALWAYS, tmp_path, "SFT").run()
    assert same(weights_of(model), uninterrupted.weights)
    assert points(tmp_path) == uninterrupted.points
    assert standing(progress) == uninterrupted.progress


def die_by_sigkill(start: Path, out: Path) -> None:
    """Train until step 5, then take the process away, with no chance to tidy up."""

    def die(step: int) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    Trainer(tiny_model(start), Wrapped(sft(), before=die), ALWAYS, out, "SFT").run()


def test_a_run_killed_by_sigkill_resumes_to_the_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += "import test_lm_train as t\nfrom pathlib import Path\nt.die_by_sigkill(*map(Path, sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "killed")], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert (tmp_path / "killed" / CHECKPOINT).is_file()
    outcomes = []
    for name in ("killed", "whole"):
        model = tiny_model(folder)
        progress = Trainer(model, sft(), SETTINGS, tmp_path / name, "SFT").run()
        outcomes.append((weights_of(model), points(tmp_path / name), standing(progress)))
    assert same(outcomes[0][0], outcomes[1][0])
    assert outcomes[0][1:] == outcomes[1][1:]


def test_a_torn_metrics_line_is_made_again(folder: Path, tmp_path: Path, uninterrupted: Reference) -> None:
    def die(step: int) -> None:
        if step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        Trainer(
            tiny_model(folder), Wrapped(sft(), before=die, score=uninterrupted.score), SETTINGS, tmp_path, "SFT"
        ).run()
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 6, "spl')
    model = tiny_model(folder)  # no checkpoint was due: training starts over, and so does the file
    Trainer(model, Wrapped(sft(), score=uninterrupted.score), SETTINGS, tmp_path, "SFT").run()
    assert points(tmp_path) == uninterrupted.points


@pytest.mark.parametrize("killed_at", range(1, 6))
def test_a_resumed_dpo_run_keeps_its_reference_and_equals_the_uninterrupted_one(
    folder: Path, tmp_path: Path, killed_at: int
) -> None:
    settings = Dpo(batch_size=2, epochs=2, learning_rate=1e-3, micro_batch_tokens=60, checkpoint_every_minutes=1e-9)
    pairs = ragged_pairs()
    reference = pair_logps(tiny_model(folder), pairs, 60)
    objective = DpoObjective(pairs, pairs[:2], reference, settings)

    def die(step: int) -> None:
        if step == killed_at:
            raise KilledError

    with pytest.raises(KilledError):
        Trainer(tiny_model(folder), Wrapped(objective, before=die), settings, tmp_path / "killed", "DPO").run()
    outcomes = []
    for name in ("killed", "whole"):
        model = tiny_model(folder)
        Trainer(model, objective, settings, tmp_path / name, "DPO").run()
        outcomes.append((weights_of(model), points(tmp_path / name)))
    assert same(outcomes[0][0], outcomes[1][0])
    assert outcomes[0][1] == outcomes[1][1]
    first = outcomes[1][1][1][2]
    assert first["preference_loss"] == pytest.approx(0.693147, abs=1e-5)
    assert first["margin"] == pytest.approx(0, abs=1e-5)


def test_training_lowers_the_loss_it_trains_on(folder: Path, tmp_path: Path) -> None:
    rows = ragged_demonstrations()
    settings = SETTINGS.model_copy(update={"epochs": 20.0})
    Trainer(tiny_model(folder), SftObjective(rows, rows, settings, seed=5), settings, tmp_path, "SFT").run()
    losses = [values["loss"] for _, split, values in points(tmp_path) if split == "validation"]
    assert losses[-1] < 0.5 * losses[0]


def test_micro_batches_change_nothing_but_rounding(folder: Path, tmp_path: Path) -> None:
    ends = []
    for budget in (1, 100_000):
        settings = SETTINGS.model_copy(update={"micro_batch_tokens": budget, "max_steps": 4})
        model = tiny_model(folder)
        Trainer(
            model, SftObjective(ragged_demonstrations(), [], settings, 5), settings, tmp_path / str(budget), ""
        ).run()
        ends.append(torch.cat([weight.flatten() for weight in weights_of(model)]))
    assert float((ends[0] - ends[1]).abs().max()) < 1e-4


def test_patience_stops_after_that_many_validations_without_improvement(folder: Path, tmp_path: Path) -> None:
    scores = iter([5.0, 4.0, 4.5, 4.2, 3.0, 3.0, 3.0, 3.0])  # at steps 0, 1, 2, ...
    settings = SETTINGS.model_copy(update={"validate_every_steps": 1, "patience": 3})
    watched: dict[int, Weights] = {}
    model = tiny_model(folder)
    objective = Wrapped(
        sft(), before=lambda step: watched.update({step: weights_of(model)}), score=lambda _: {"loss": next(scores)}
    )
    progress = Trainer(model, objective, settings, tmp_path, "SFT").run()
    assert (progress.step, progress.best_step, progress.stopped_early) == (7, 4, True)
    assert same(weights_of(model), watched[4])


@pytest.mark.parametrize(
    ("keep", "kept", "told"),
    [
        ("best", 2, "the weights of step 2 of 4 are kept, where the held-out loss was lowest"),
        ("last", 4, ""),
    ],
)
def test_where_the_settings_say_so_the_last_weights_are_kept_though_earlier_ones_had_a_lower_loss(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], keep: str, kept: int, told: str
) -> None:
    scores = iter([5.0, 4.0, 3.0, 4.0, 4.5])  # at steps 0, 1, 2, ...
    settings = SETTINGS.model_copy(update={"validate_every_steps": 1, "max_steps": 4, "keep": keep})
    after: list[Weights] = []
    model = tiny_model(folder)

    def score(seen: LanguageModel) -> Values:
        after.append(weights_of(seen))
        return {"loss": next(scores)}

    trainer = Trainer(model, Wrapped(sft(settings), score=score), settings, tmp_path, "SFT")
    progress = trainer.run()
    assert (progress.step, progress.best_step) == (4, 2)  # which was best is known either way
    assert trainer.kept_step == kept
    assert same(weights_of(model), after[kept])
    assert not same(after[2], after[4])
    assert list(tmp_path.glob(".best-*")) == ([tmp_path / ".best-2.pt"] if keep == "best" else [])
    said = capsys.readouterr().err
    assert told in said
    assert ("weights of" in said) == (keep == "best")


def test_the_weights_that_solved_most_are_kept_the_later_of_equals_whatever_the_loss_says(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = iter([(0.3, 1.0), (0.5, 2.0), (0.4, 0.5), (0.5, 3.0), (0.4, 0.1)])  # solved, loss at steps 0, 1, 2, ...
    settings = Sft.model_validate(
        {**SETTINGS.model_dump(), "validate_every_steps": 1, "max_steps": 4, "keep": "solved", "validate_problems": 9}
    )
    after: list[Weights] = []
    model = tiny_model(folder)

    def score(now: LanguageModel) -> Values:
        after.append(weights_of(now))
        return dict(zip(("solved", "loss"), next(seen), strict=True)) | {"problems": 9}

    trainer = Trainer(model, Wrapped(sft(settings), score=score), settings, tmp_path, "SFT")
    assert trainer.run().best_step == trainer.kept_step == 3
    assert same(weights_of(model), after[3])
    assert "the weights of step 3 of 4 are kept, where most problems were solved" in capsys.readouterr().err


def test_a_killed_run_that_keeps_the_last_weights_resumes_to_the_same(folder: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"keep": "last"})

    def die(step: int) -> None:
        if step == 6:
            raise KeyboardInterrupt

    whole = tiny_model(folder)
    Trainer(whole, sft(settings), settings, tmp_path / "whole", "SFT").run()
    often = settings.model_copy(update={"checkpoint_every_minutes": 1e-9})
    with pytest.raises(KeyboardInterrupt):
        Trainer(tiny_model(folder), Wrapped(sft(often), before=die), often, tmp_path / "killed", "SFT").run()
    resumed = tiny_model(folder)
    trainer = Trainer(resumed, sft(often), often, tmp_path / "killed", "SFT")
    assert trainer.run().step == trainer.kept_step == STEPS
    assert same(weights_of(resumed), weights_of(whole))


def test_where_training_only_does_harm_it_is_said_that_the_first_weights_are_kept(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = iter([3.0, 4.0, 5.0])
    settings = SETTINGS.model_copy(update={"validate_every_steps": 1, "max_steps": 2})
    objective = Wrapped(sft(settings), score=lambda _: {"loss": next(scores)})
    Trainer(tiny_model(folder), objective, settings, tmp_path, "SFT").run()
    assert "SFT: no step lowered the held-out loss, so the weights it began with are kept" in capsys.readouterr().err


def test_without_held_out_rows_the_last_weights_are_returned(folder: Path, tmp_path: Path) -> None:
    model = tiny_model(folder)
    objective = SftObjective(ragged_demonstrations(), [], SETTINGS, seed=5)
    progress = Trainer(model, objective, SETTINGS, tmp_path, "SFT").run()
    assert (progress.best_step, progress.step) == (-1, STEPS)
    assert not same(weights_of(model), weights_of(tiny_model(folder)))


def test_patience_without_held_out_rows_is_said_to_have_nothing_to_go_by(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = SETTINGS.model_copy(update={"patience": 1, "max_steps": 2})
    Trainer(tiny_model(folder), sft(settings), settings, tmp_path / "some", "SFT").run()
    assert "patience" not in capsys.readouterr().err
    objective = SftObjective(ragged_demonstrations(), [], settings, seed=5)
    Trainer(tiny_model(folder), objective, settings, tmp_path / "none", "SFT").run()
    assert "SFT: no row is held out, so patience has nothing to go by" in " ".join(capsys.readouterr().err.split())


def nan_loss(loss: StepLoss, model: LanguageModel) -> StepLoss:
    bad = loss.loss * float("nan")
    return StepLoss(bad, {"loss": bad})


def nan_gradient(loss: StepLoss, model: LanguageModel) -> StepLoss:
    zero = (model.head.weight.sum() * 0).sqrt()  # its value is 0 and its gradient is infinity times 0
    return StepLoss(loss.loss + zero, loss.sums)


@pytest.mark.parametrize(("spoiled", "what"), [(nan_loss, "loss"), (nan_gradient, "gradient norm")])
def test_what_is_not_finite_stops_training_names_step_and_rows_and_leaves_the_weights(
    folder: Path, tmp_path: Path, spoiled: Callable[[StepLoss, LanguageModel], StepLoss], what: str
) -> None:
    model = tiny_model(folder)
    before: dict[int, Weights] = {}
    objective = Wrapped(
        sft(),
        before=lambda step: before.update({step: weights_of(model)}),
        spoil=lambda step, loss: spoiled(loss, model) if step == 2 else loss,
    )
    where = tmp_path / "non_finite.json"
    with pytest.raises(TrainingError, match=f"SFT: the {what} of step 3 is nan") as raised:
        Trainer(model, objective, SETTINGS, tmp_path, "SFT").run()
    assert str(where) in str(raised.value)
    assert json.loads(where.read_text()) == {"step": 2, "what": what, "rows": [row.id for row in sft().rows(2)]}
    assert max(before) == 2
    assert same(weights_of(model), before[2])


def test_one_micro_batch_that_is_not_finite_stops_the_step_and_the_run_goes_on_from_its_checkpoint(
    folder: Path, tmp_path: Path
) -> None:
    settings = ALWAYS.model_copy(update={"micro_batch_tokens": 1})  # three micro-batches a step
    parts: list[int] = []

    def spoil_the_second_of_step_3(step: int, loss: StepLoss) -> StepLoss:
        parts.append(step)
        if parts.count(2) != 2 or step != 2:
            return loss
        return StepLoss(loss.loss * float("inf"), {"loss": loss.sums["loss"] * float("inf")})

    model = tiny_model(folder)
    before: dict[int, Weights] = {}
    objective = Wrapped(
        sft(settings),
        before=lambda step: before.update({step: weights_of(model)}),
        spoil=spoil_the_second_of_step_3,
    )
    with pytest.raises(TrainingError, match="SFT: the loss of step 3 is inf"):
        Trainer(model, objective, settings, tmp_path / "stopped", "SFT").run()
    assert parts.count(2) == 3
    assert same(weights_of(model), before[2])
    found = json.loads((tmp_path / "stopped" / "non_finite.json").read_text())
    assert found == {"step": 2, "what": "loss", "rows": [row.id for row in sft().rows(2)]}
    ends = []
    for name in ("stopped", "whole"):
        again = tiny_model(folder)
        Trainer(again, sft(settings), settings, tmp_path / name, "SFT").run()
        ends.append((weights_of(again), points(tmp_path / name)))
    assert same(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


def test_a_model_whose_validation_loss_is_no_number_is_asked_nothing(folder: Path, tmp_path: Path) -> None:
    scores, asked = iter([5.0, 4.0, float("nan")]), list[int]()

    def quiz() -> Values:
        asked.append(1)
        return {"solved": 0.5}

    objective = Wrapped(sft(), score=lambda _: {"loss": next(scores)})
    trainer = Trainer(tiny_model(folder), objective, SETTINGS, tmp_path, "SFT", quiz=quiz)
    with pytest.raises(TrainingError, match="validation loss after step 4"):
        trainer.run()
    assert len(asked) == 2
    assert [values["solved"] for _, split, values in points(tmp_path) if split == "validation"] == [0.5, 0.5]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_validation_loss_that_is_not_finite_stops_training_and_names_the_rows_held_out(
    folder: Path, tmp_path: Path, bad: float
) -> None:
    scores = iter([5.0, 4.0, bad])  # after steps 0, 2 and 4
    model = tiny_model(folder)
    with pytest.raises(TrainingError, match=f"SFT: the validation loss after step 4 is {bad}") as raised:
        Trainer(model, Wrapped(sft(), score=lambda _: {"loss": next(scores)}), SETTINGS, tmp_path, "SFT").run()
    where = tmp_path / "non_finite.json"
    assert str(where) in str(raised.value)
    heldout = [row.id for row in sft().heldout]
    assert json.loads(where.read_text()) == {"step": 4, "what": "validation loss", "rows": heldout}
    assert [(step, split) for step, split, _ in points(tmp_path)][-2:] == [(3, "train"), (4, "train")]
    assert torch.load(tmp_path / ".best-2.pt", weights_only=True)


class Reads(TorchFunctionMode):
    """Counts what makes the host wait for a device: every number that Python reads out of a tensor."""

    WAITS = frozenset({"tolist", "item", "__float__", "__bool__", "__int__", "__index__", "cpu", "numpy", "nonzero"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in self.WAITS:
            self.found.append(function.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_step_reads_its_numbers_from_the_device_once(folder: Path, tmp_path: Path, kind: str) -> None:
    model, pairs = tiny_model(folder), ragged_pairs()
    inner: Objective
    settings: Sft | Dpo
    if kind == "sft":
        settings = SETTINGS.model_copy(update={"micro_batch_tokens": 30})
        inner = SftObjective(ragged_demonstrations(), [], settings, seed=5)
    else:
        settings = Dpo(batch_size=3, epochs=3, micro_batch_tokens=30)
        inner = DpoObjective(pairs, [], pair_logps(model, pairs, 60), settings)
    reads = Reads()
    by_step: list[int] = []
    objective = Wrapped(inner, before=lambda _: by_step.append(len(reads.found)))
    with reads:
        Trainer(model, objective, settings, tmp_path, kind).run()
    assert len(by_step) > 4
    assert [after - before for before, after in pairwise(by_step)] == [1] * (len(by_step) - 1)
    assert set(reads.found[by_step[0] :]) == {"tolist"}


def test_a_steps_time_includes_its_micro_batches(folder: Path, tmp_path: Path) -> None:
    def wait(_: int, loss: StepLoss) -> StepLoss:
        time.sleep(0.02)
        return loss

    settings = SETTINGS.model_copy(update={"max_steps": 3, "micro_batch_tokens": 1})
    progress = Trainer(tiny_model(folder), Wrapped(sft(settings), spoil=wait), settings, tmp_path, "SFT").run()
    assert progress.seconds > 3 * 3 * 0.02
    assert all(
        metric.values["tokens_per_second"] < max(row.num_tokens for row in sft().train) * 3 / 0.06
        for metric in read_records(tmp_path / METRICS, Metric)
        if metric.split == "train"
    )


def recompute(setting: str) -> Sft:
    return ALWAYS.model_copy(update={"gradient_checkpointing": setting})


def test_training_says_what_it_does_about_memory_and_does_it(
    folder: Path, tmp_path: Path, uninterrupted: Reference, capsys: pytest.CaptureFixture[str]
) -> None:
    """And ends with the same weights, bit for bit, whichever it is."""
    for setting, words in (("auto", "kept"), ("off", "kept"), ("on", "computed again (gradient checkpointing)")):
        model = tiny_model(folder)
        seen: list[int] = []

        def count(_: int, model: LanguageModel = model, seen: list[int] = seen) -> None:
            seen.append(sum(layer.training for layer in layers_of(model.network)))

        objective = Wrapped(sft(), before=count, score=uninterrupted.score)
        trainer = Trainer(model, objective, recompute(setting), tmp_path / setting, "SFT")
        trainer.run()
        said = capsys.readouterr().err
        assert re.search(
            rf"  SFT: about .* of .* at 60 tokens a micro-batch; activations are {re.escape(words)}\n", said
        )
        assert set(seen) == {2 if setting == "on" else 0}
        assert not model.network.training
        assert not any(layer.training for layer in layers_of(model.network))
        assert same(weights_of(model), uninterrupted.weights)
        assert points(tmp_path / setting) == uninterrupted.points
        facts = training_result(trainer, {}, Items([], {}), Items([], {}), "here").facts
        assert facts["gradient_checkpointing"] is (setting == "on")
        assert 0 < facts["memory"]["fixed_bytes"] < facts["memory"]["kept_bytes"] < facts["memory"]["available_bytes"]


@pytest.mark.parametrize(
    ("first", "then", "chosen"), [("on", "auto", True), ("off", "auto", False), ("auto", "on", True)]
)
def test_a_resumed_run_keeps_the_choice_of_its_checkpoint_unless_the_recipe_says_otherwise(
    folder: Path, tmp_path: Path, uninterrupted: Reference, first: str, then: str, chosen: bool
) -> None:
    def die(step: int) -> None:
        if step == 5:
            raise KilledError

    dying = Wrapped(sft(), before=die, score=uninterrupted.score)
    with pytest.raises(KilledError):
        Trainer(tiny_model(folder), dying, recompute(first), tmp_path, "SFT").run()
    model = tiny_model(folder)
    progress = Trainer(model, Wrapped(sft(), score=uninterrupted.score), recompute(then), tmp_path, "SFT").run()
    assert progress.recompute is chosen
    assert same(weights_of(model), uninterrupted.weights)
    assert points(tmp_path) == uninterrupted.points


def test_nothing_to_train_on_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="SFT: no training row is left"):
        Trainer(tiny_model(folder), SftObjective([], [], SETTINGS, 5), SETTINGS, tmp_path, "SFT")


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text"])
def test_a_trained_folder_opens_with_transformers_and_gives_the_same_logits(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(tiny_folder(tmp_path / "start", architecture))
    settings = SETTINGS.model_copy(update={"max_steps": 2, "checkpoint_every_minutes": 1e-9})
    out = tmp_path / "out"
    trainer = Trainer(model, sft(settings), settings, out, "SFT")
    trainer.run()
    model.save(out / "model")
    ids = torch.arange(20, 32)[None]
    with torch.no_grad():
        ours = model.network(input_ids=ids, use_cache=False).logits
        theirs = plain_model(out / "model")(input_ids=ids, use_cache=False).logits
        again = tiny_model(out / "model").network(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    assert torch.equal(again, ours)


def test_a_bf16_model_trains_and_is_saved_in_bf16(folder: Path, tmp_path: Path) -> None:
    model = tiny_model(folder, torch.bfloat16)
    rows = ragged_demonstrations()
    settings = SETTINGS.model_copy(update={"epochs": 20.0})
    Trainer(model, SftObjective(rows, rows, settings, seed=5), settings, tmp_path, "SFT").run()
    losses = [values["loss"] for _, split, values in points(tmp_path) if split == "validation"]
    assert losses[-1] < 0.6 * losses[0]
    model.save(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"
