"""The training loop that SFT and DPO share: accumulate, check, clip, step, validate, checkpoint, keep.

Knows nothing of what is learnt: an `Objective` says which micro-batches make an optimizer step and what their loss is.
Everything that a step depends on is the weights, the optimizer's state and the step's number, so a killed run resumes
from its last checkpoint and goes on bit for bit (fp32, on a CPU) as if it had never stopped.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from limbeck.console import Meter, meter, say
from limbeck.errors import TrainingError
from limbeck.lm.alarm_file import AlarmFile, planned
from limbeck.lm.free_memory import device_memory
from limbeck.lm.machine import release
from limbeck.lm.memory import Estimate, choose, estimate_memory, in_words, memory_told, refuse_impossible, shortage
from limbeck.lm.optim import MasterAdamW
from limbeck.lm.packed_model import PackedModel
from limbeck.lm.packing import Item
from limbeck.lm.recompute import recomputing
from limbeck.lm.schedule import clip_scale, learning_rate, num_steps
from limbeck.recipe.alarms import Alarms
from limbeck.recipe.training import Optimisation
from limbeck.records import Metric
from limbeck.store import RecordStream, atomic_path, write_json, write_records
from limbeck.tracking import Tracking

CHECKPOINT = ".checkpoint.pt"
METRICS = "metrics.jsonl"
Values = dict[str, float]


@dataclass(frozen=True)
class StepLoss:
    """One micro-batch's share of the step's loss (already divided by the whole step's denominator) and of its sums."""

    loss: Tensor
    sums: dict[str, Tensor]


class Objective(Protocol):
    """What is learnt."""

    @property
    def train(self) -> Sequence[Item]:
        """All training rows."""

    @property
    def heldout(self) -> Sequence[Item]:
        """All rows that `validate` looks at."""

    @property
    def num_rows(self) -> int:
        """Training rows in one epoch."""

    def rows(self, step: int) -> Sequence[Item]:
        """The rows of optimizer step `step` (from 0): the same for the same step, always."""

    def losses(self, model: PackedModel, rows: Sequence[Item]) -> Iterator[StepLoss]:
        """Yield the step's micro-batches, each computed when it is asked for."""

    def validate(self, model: PackedModel) -> Values:
        """Held-out values, of which `loss` or `solved` decides what is kept. Empty: nothing is held out."""


@dataclass
class Progress:
    """Where a run stands; saved in every checkpoint.

    `recompute`: whether activations are computed again; None until that is chosen. A resumed run keeps what `auto`
    chose, since the other way could round differently. `best_loss`: the least loss or share unsolved, as `keep` says.
    """

    step: int = 0
    best_step: int = -1
    best_loss: float = math.inf
    misses: int = 0
    seconds: float = 0.0
    tokens: int = 0
    stopped_early: bool = False
    stopped_by_alarm: bool = False
    recompute: bool | None = None


class Trainer:
    """One training run in one folder. `run` trains to the end, or resumes and then trains to the end.

    `alarms`: what is watched for on the way; None: nothing. Alarms name what they are about by `about`, or `label`.
    """

    def __init__(
        self,
        model: PackedModel,
        objective: Objective,
        settings: Optimisation,
        folder: Path,
        label: str,
        alarms: Alarms | None = None,
        about: str = "",
        tracking: Tracking | None = None,
        *,
        quiz: Callable[[], Values] | None = None,
    ) -> None:
        if objective.num_rows == 0:
            raise TrainingError(f"{label}: no training row is left; see the drops in the manifests of earlier stages")
        self.model, self.objective, self.settings = model, objective, settings
        self.folder, self.label, self.tracking, self.quiz = folder, label, tracking, quiz
        self.steps = num_steps(settings, objective.num_rows)
        refuse_impossible(model.network, device_memory(model.device), label)
        with memory_told(label, model.device):
            self.optimizer = MasterAdamW(model.network, weight_decay=settings.weight_decay)
        self.progress = Progress()
        plan = planned(settings, self.steps, objective.train, objective.heldout)
        self.watch = AlarmFile(folder, alarms, plan, about or label)
        self.estimate: Estimate | None = None  # of memory, made when training begins
        self._saved_at = time.monotonic()
        self._keeps_best = settings.keep != "last"
        self._saved_best: Path | None = None  # what the last checkpoint would resume to

    def run(self) -> Progress:
        """Train; on return the model holds the best weights by validation (the last where nothing is held out, and
        where the settings say so).

        Raises:
            TrainingError: where memory runs out; or a loss or gradient is not finite: the weights were not touched by
                it, and the rows of the step are in `non_finite.json`.
        """
        with memory_told(self.label, self.model.device):
            self._run()
        return self.progress

    def _run(self) -> None:
        self._resume()
        recompute = self._settle_memory()
        with (
            recomputing(self.model.network) if recompute else nullcontext(),
            RecordStream(self.folder / METRICS, Metric) as metrics,
            self.watch.opened(metrics.done),
            self.tracking.following(self.folder / METRICS) if self.tracking is not None else nullcontext(),
            meter(self.label, self.steps, "steps") as bar,
        ):
            if self.progress.step == 0:
                self._say_what_is_idle()
                self._validate(metrics)
            bar.begin(self.progress.step)
            while self.progress.step < self.steps and not self._stops():
                self._step(metrics, bar)
        self._finish()

    @property
    def kept_step(self) -> int:
        """After how many steps the weights are that a finished run holds."""
        progress = self.progress
        return progress.best_step if self._keeps_best and progress.best_step >= 0 else progress.step

    def _say_what_is_idle(self) -> None:
        if self.settings.patience is not None and not self.objective.heldout:
            say(f"  {self.label}: no row is held out, so patience has nothing to go by: training goes on to its end")

    def _stops(self) -> bool:
        progress = self.progress
        if self.watch.stops and not progress.stopped_early:
            progress.stopped_by_alarm = True
            kept = "the best checkpoint is" if progress.best_step >= 0 and self._keeps_best else "its weights are"
            say(f"  {self.label}: ends at step {progress.step} of {self.steps}, since there is an alarm and "
                f'alarms.on_alarm is "stop"; {kept} kept')  # fmt: skip
        return progress.stopped_early or progress.stopped_by_alarm

    def _record(self, metrics: RecordStream, metric: Metric) -> None:
        metrics.append(metric)
        self.watch.see(metric)

    def _settle_memory(self) -> bool:
        """Estimate what training needs, and say what follows: whether activations are computed again."""
        release()  # what an earlier stage has freed counts as free
        estimate = estimate_memory(
            self.model,
            self.optimizer.weights(),
            self.objective.train,
            self.settings,
            free_bytes=device_memory(self.model.device).free,
            moments_held=self.progress.step > 0,
        )
        recompute = choose(estimate, self.settings, self.model)
        if self.settings.gradient_checkpointing == "auto" and self.progress.recompute is not None:
            recompute = self.progress.recompute
        say(f"  {in_words(self.label, estimate, recompute)}")
        warning = shortage(self.label, estimate, recompute, self.model)
        if warning:
            say(f"  {warning}")
        self.estimate, self.progress.recompute = estimate, recompute
        return recompute

    def _step(self, metrics: RecordStream, bar: Meter) -> None:
        started = time.perf_counter()
        step = self.progress.step
        rows = self.objective.rows(step)
        values = self._accumulate(rows)
        rate = learning_rate(self.settings, step, self.steps)
        self.optimizer.step(rate, clip_scale(values["grad_norm"], self.settings.max_grad_norm))
        tokens = sum(row.num_tokens for row in rows)
        # Reading the values waited for the device. Its update may still run; then the next step's read waits for it.
        seconds = time.perf_counter() - started
        values |= {"learning_rate": rate, "tokens_per_second": tokens / seconds}
        self.progress.step += 1
        self.progress.tokens += tokens
        self.progress.seconds += seconds
        self._record(metrics, Metric(step=step + 1, split="train", values=values))
        bar.advance(1, f"loss {values['loss']:.3f}  {tokens / seconds:.0f} tok/s")
        if self.progress.step % self.settings.validate_every_steps == 0 or self.progress.step == self.steps:
            self._validate(metrics)
        if time.monotonic() - self._saved_at > 60 * self.settings.checkpoint_every_minutes:
            self.save()

    def _accumulate(self, rows: Sequence[Item]) -> Values:
        """Add up gradients; return the step's sums and the gradient norm, read at once: one wait for the GPU a step."""
        totals: dict[str, Tensor] = {}
        for part in self.objective.losses(self.model, rows):
            part.loss.backward()
            for name, value in part.sums.items():
                totals[name] = totals[name] + value.detach() if name in totals else value.detach()
        totals["grad_norm"] = self.optimizer.grad_norm()
        read: list[float] = torch.stack(list(totals.values())).tolist()
        values = dict(zip(totals, read, strict=True))
        where = f"of step {self.progress.step + 1}"
        self._refuse_non_finite(values["loss"], "loss", where, rows)
        self._refuse_non_finite(values["grad_norm"], "gradient norm", where, rows)
        return values

    def _refuse_non_finite(self, value: float, what: str, where: str, rows: Sequence[Item]) -> None:
        if math.isfinite(value):
            return
        self.optimizer.zero_grad()
        file = self.folder / "non_finite.json"
        write_json(file, {"step": self.progress.step, "what": what, "rows": [row.id for row in rows]})
        raise TrainingError(
            f"{self.label}: the {what} {where} is {value}; the weights of step {self.progress.step} were left as they "
            f"were, and the rows it was computed on are in {file}; a lower learning_rate or fp32 usually cures it"
        )

    def _validate(self, metrics: RecordStream) -> None:
        with torch.no_grad():
            values = self.objective.validate(self.model)
        if not values:
            return
        progress = self.progress
        self._refuse_non_finite(
            values["loss"], "validation loss", f"after step {progress.step}", self.objective.heldout
        )
        values |= self.quiz() if self.quiz else {}  # of a model whose loss is a number
        self._record(metrics, Metric(step=progress.step, split="validation", values=values))
        loss = 1 - values["solved"] if self.settings.keep == "solved" else values["loss"]
        better = loss < progress.best_loss
        progress.misses = 0 if better else progress.misses + 1
        if better or (self.settings.keep == "solved" and loss == progress.best_loss):
            progress.best_loss, progress.best_step = loss, progress.step
            self._forget_best(keep=self._saved_best)
            if self._keeps_best:
                _save(self._best_path(), self.optimizer.weights())
        progress.stopped_early = self.settings.patience is not None and progress.misses >= self.settings.patience

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {"progress": vars(self.progress), "optimizer": self.optimizer.state_dict()}
        _save(self.folder / CHECKPOINT, state)
        self._saved_at = time.monotonic()
        self._saved_best = self._best_path()
        self._forget_best(keep=self._saved_best)

    def _best_path(self) -> Path:
        # Named by step: a resumed run must not mistake weights from its lost future for the best it knows of.
        return self.folder / f".best-{self.progress.best_step}.pt"

    def _forget_best(self, keep: Path | None) -> None:
        for path in self.folder.glob(".best-*.pt"):
            if path != keep:
                path.unlink()

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        if path.is_file():
            state = torch.load(path, map_location=self.model.device, weights_only=True)
            self.progress = Progress(**state["progress"])
            self.optimizer.load_state_dict(state["optimizer"])
            self._saved_best = self._best_path()
        _cut_metrics(self.folder / METRICS, self.progress.step if path.is_file() else -1)

    def _finish(self) -> None:
        self.optimizer.stop()  # before more is loaded: the end of a run must not need more memory than its steps
        if self.kept_step != self.progress.step:
            say(f"  {self.label}: {_in_words(self.progress, self.settings)}")
            best = torch.load(self._best_path(), map_location=self.model.device, weights_only=True)
            self.optimizer.set_weights(best)
            del best
        self.optimizer.close()


def _in_words(progress: Progress, settings: Optimisation) -> str:
    """Which weights are kept, where they are not the last."""
    better, best = "lowered the held-out loss", "the held-out loss was lowest"
    if settings.keep == "solved":
        better, best = "solved as many problems as before", "most problems were solved"
    if progress.best_step == 0:
        return f'no step {better}, so the weights it began with are kept; keep = "last" takes the last'
    return f"the weights of step {progress.best_step} of {progress.step} are kept, where {best}"


def _save(path: Path, state: object) -> None:
    # Through a file of Python's: given a path, torch writes by itself and does not say that the disk is full.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


def _cut_metrics(path: Path, last_step: int) -> None:
    """Drop the points after the checkpoint that training resumes from: they will be made again."""
    if not path.exists():
        return
    with RecordStream(path, Metric) as stream:
        kept = [metric for metric in stream.done if metric.step <= last_step]
    write_records(path, kept)
