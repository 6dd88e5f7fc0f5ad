"""limbeck's side of every measurement, through the surfaces that its stages use: load, pack, objective, trainer."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from benchmarks.contract import Job, Outcome, StepClock, peak_memory_bytes, read_job, read_rows, report
from benchmarks.flops import sizes_of, training_flops
from benchmarks.workload import Row
from limbeck.lm.load import LanguageModel, load_model
from limbeck.lm.machine import matmul_flops_per_second, place
from limbeck.lm.micro_batch import scoring_tokens, settled
from limbeck.lm.objectives import DpoObjective, SftObjective, pair_logps
from limbeck.lm.packed_model import PackedModel
from limbeck.lm.packing import Item
from limbeck.lm.train import Objective, StepLoss, Trainer, Values
from limbeck.recipe import Model
from limbeck.recipe.training import Dpo, Sft

_PROBES = 5


class Timed:
    """An objective with a warm-up step before its own; notes when each step begins and which rows it trains on."""

    def __init__(self, inner: Objective, warm_up: Sequence[Item], epochs: int) -> None:
        self.inner, self.warm_up, self.epochs = inner, warm_up, epochs
        self.clock = StepClock()
        self.ended = 0.0  # when the last step's update was made
        self.warming_up = True
        self.trained: list[Item] = []  # rows of timed steps, as often as their losses were asked for

    @property
    def train(self) -> Sequence[Item]:
        """All rows that are trained on."""
        return [*self.warm_up, *self.inner.train]

    @property
    def heldout(self) -> Sequence[Item]:
        """None."""
        return self.inner.heldout

    @property
    def num_rows(self) -> int:
        """Rows of the whole run, which the trainer takes for one epoch."""
        return len(self.warm_up) + self.epochs * self.inner.num_rows

    def rows(self, step: int) -> Sequence[Item]:
        """Rows of a step, which begins now."""
        self.clock.mark()
        self.warming_up = step == 0
        return self.inner.rows(step - 1) if step else self.warm_up

    def losses(self, model: PackedModel, rows: Sequence[Item]) -> Iterator[StepLoss]:
        """Losses of a step."""
        if not self.warming_up:
            self.trained += rows
        return self.inner.losses(model, rows)

    def validate(self, model: PackedModel) -> Values:
        """Nothing: there are no held-out rows. After the last step this is where training ends: what follows it, the
        rounding of the master weights, TRL does not do.
        """
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        self.ended = time.perf_counter()
        return self.inner.validate(model)


def items(rows: Sequence[Row]) -> list[Item]:
    """Rows as the engine takes them."""
    return [Item(row.id, tuple(row.prompt), tuple(tuple(response) for response in row.responses)) for row in rows]


def load(job: Job) -> LanguageModel:
    """The model, on the job's device and in its dtype."""
    return load_model(job.model, *place(Model(device=job.device, dtype=job.dtype)))


def as_compared(job: Job) -> dict[str, Any]:
    """What TRL does not do either (see trl_worker): save, and on a CPU, compute activations again to save memory."""
    never_due: dict[str, Any] = {"checkpoint_every_minutes": 1e9}
    return never_due | ({"gradient_checkpointing": "off"} if job.device == "cpu" else {})


def dpo(job: Job) -> Outcome:
    """Reference pass and training, as `limbeck dpo` does both; the loss is TRL's default, without an anchor term."""
    rows = read_rows(job.rows)
    warm_up, timed = items(rows.warm_up), items(rows.timed)
    model = load(job)
    loaded = peak_memory_bytes()
    settings = Dpo(batch_size=job.batch, epochs=job.epochs, learning_rate=1e-6, nll_weight=0, **as_compared(job))
    at_once = scoring_tokens(settings, model.device)
    reference = pair_logps(model, warm_up, at_once)
    started = time.perf_counter()
    reference |= pair_logps(model, timed, at_once)
    reference_seconds = time.perf_counter() - started
    settings = settled(settings, model, timed, "limbeck")
    run = train(model, DpoObjective(timed, [], reference, settings), warm_up, settings, job.scratch)
    flops = training_flops(sizes_of(model.network), rows.timed, job.epochs, reference=True)
    return _outcome(model, settings, run, reference_seconds, loaded, flops)


def sft(job: Job) -> Outcome:
    """Training on responses only."""
    rows = read_rows(job.rows)
    model = load(job)
    loaded = peak_memory_bytes()
    settings = Sft(batch_size=job.batch, epochs=job.epochs, learning_rate=2e-5, **as_compared(job))
    timed = items(rows.timed)
    settings = settled(settings, model, timed, "limbeck")
    objective = SftObjective(timed, [], settings, job.seed)
    run = train(model, objective, items(rows.warm_up), settings, job.scratch)
    flops = training_flops(sizes_of(model.network), rows.timed, job.epochs, reference=False)
    return _outcome(model, settings, run, 0.0, loaded, flops)


class Run(NamedTuple):
    """What training did. `trained`: rows of the timed steps; `recompute`: activations were computed again."""

    clock: StepClock
    trained: list[Item]
    recompute: bool


def train(
    model: LanguageModel, objective: Objective, warm_up: Sequence[Item], settings: Dpo | Sft, scratch: Path
) -> Run:
    """Train to the end in a folder of its own; the clock's first step is the warm-up."""
    timed = Timed(objective, warm_up, round(settings.epochs))
    progress = Trainer(model, timed, settings.model_copy(update={"epochs": 1}), scratch / "run", "limbeck").run()
    timed.clock.marks.append(timed.ended)
    return Run(timed.clock, timed.trained, bool(progress.recompute))


def _outcome(model: LanguageModel, settings: Dpo | Sft, run: Run, reference: float, loaded: int, flops: int) -> Outcome:
    peak = peak_memory_bytes()
    on_device = torch.cuda.max_memory_allocated() if model.device.type == "cuda" else 0
    return Outcome(
        seconds=reference + run.clock.seconds,
        reference_seconds=reference,
        rows=len(run.trained),
        steps=len(run.clock.marks) - 2,
        target_tokens=sum(item.num_targets for item in run.trained),
        peak_memory_bytes=peak,
        peak_device_memory_bytes=on_device,
        loaded_memory_bytes=loaded,
        facts={
            "dtype": "bf16" if model.head.weight.dtype == torch.bfloat16 else "fp32",
            "recompute": run.recompute,
            "micro_batch_tokens": settings.tokens_at_once,
            "model_flops": flops,
            "matmul_flops_per_second": matmul_rates(model.device),
        },
    )


def matmul_rates(device: torch.device) -> dict[str, float]:
    """The machine's measured rate of matrix products, by dtype: medians of several probes."""
    kinds = {"bf16": torch.bfloat16, "fp32": torch.float32}
    probes = [{name: matmul_flops_per_second(kind, device) for name, kind in kinds.items()} for _ in range(_PROBES)]
    return {name: median(probe[name] for probe in probes) for name in kinds}


def logps(job: Job) -> Outcome:
    """Summed log-probabilities of every pair, through the training path."""
    rows = read_rows(job.rows)
    model = load(job)
    found = pair_logps(model, items(rows.timed), scoring_tokens(Dpo(), model.device))
    return Outcome(rows=len(rows.timed), facts={"logps": {id_: list(pair) for id_, pair in found.items()}})


def main(arguments: Sequence[str]) -> None:
    """Do the job and print its outcome."""
    job = read_job(arguments)
    if job.task == "sweep":
        from benchmarks.sweep_worker import sweep

        report(sweep(job))
        return
    report({"dpo": dpo, "sft": sft, "logps": logps}[job.task](job))


if __name__ == "__main__":
    main(sys.argv[1:])
