"""limbeck's side of every measurement, through the surfaces that its stages use: load, pack, objective, trainer."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.contract import Job, Outcome, StepClock, peak_memory_bytes, read_job, read_rows, report
from benchmarks.flops import sizes_of, training_flops
from benchmarks.workload import Row
from limbeck.lm.load import LanguageModel, load_model
from limbeck.lm.machine import matmul_flops_per_second, place
from limbeck.lm.objectives import DpoObjective, SftObjective, pair_logps
from limbeck.lm.packing import Item
from limbeck.lm.train import Objective, StepLoss, Trainer, Values
from limbeck.recipe import Dpo, Model, Sft

_PROBES = 5
# TRL does not save in these runs (see trl_worker), so limbeck does not either: no checkpoint is ever due.
NO_CHECKPOINT: dict[str, Any] = {"checkpoint_every_minutes": 1e9}


class Timed:
    """An objective with a warm-up step before its own steps, which notes when each step begins."""

    def __init__(self, inner: Objective, warm_up: Sequence[Item], epochs: int) -> None:
        self.inner, self.warm_up, self.epochs = inner, warm_up, epochs
        self.clock = StepClock()

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
        return self.inner.rows(step - 1) if step else self.warm_up

    def losses(self, model: LanguageModel, rows: Sequence[Item]) -> Iterator[StepLoss]:
        """Losses of a step."""
        return self.inner.losses(model, rows)

    def validate(self, model: LanguageModel) -> Values:
        """Nothing: there are no held-out rows."""
        return self.inner.validate(model)


def items(rows: Sequence[Row]) -> list[Item]:
    """Rows as the engine takes them."""
    return [Item(row.id, tuple(row.prompt), tuple(tuple(response) for response in row.responses)) for row in rows]


def load(job: Job) -> LanguageModel:
    """The model, on the job's device and in its dtype."""
    return load_model(job.model, *place(Model(device=job.device, dtype=job.dtype)))


def dpo(job: Job) -> Outcome:
    """Reference pass and training, as `limbeck dpo` does both; the loss is TRL's default, without an anchor term."""
    rows = read_rows(job.rows)
    warm_up, timed = items(rows.warm_up), items(rows.timed)
    model = load(job)
    loaded = peak_memory_bytes()
    settings = Dpo(batch_size=job.batch, epochs=job.epochs, learning_rate=1e-6, nll_weight=0, **NO_CHECKPOINT)
    reference = pair_logps(model, warm_up, settings.micro_batch_tokens)
    started = time.perf_counter()
    reference |= pair_logps(model, timed, settings.micro_batch_tokens)
    reference_seconds = time.perf_counter() - started
    clock = train(model, DpoObjective(timed, [], reference, settings), warm_up, settings, job.scratch)
    flops = training_flops(sizes_of(model.network), rows.timed, job.epochs, reference=True)
    return _outcome(job, model, rows.timed, clock, reference_seconds, loaded, flops)


def sft(job: Job) -> Outcome:
    """Training on responses only."""
    rows = read_rows(job.rows)
    model = load(job)
    loaded = peak_memory_bytes()
    settings = Sft(batch_size=job.batch, epochs=job.epochs, learning_rate=2e-5, **NO_CHECKPOINT)
    objective = SftObjective(items(rows.timed), [], settings, job.seed)
    clock = train(model, objective, items(rows.warm_up), settings, job.scratch)
    flops = training_flops(sizes_of(model.network), rows.timed, job.epochs, reference=False)
    return _outcome(job, model, rows.timed, clock, 0.0, loaded, flops)


def train(
    model: LanguageModel, objective: Objective, warm_up: Sequence[Item], settings: Dpo | Sft, scratch: Path
) -> StepClock:
    """Train to the end in a folder of its own; the clock's first step is the warm-up."""
    timed = Timed(objective, warm_up, round(settings.epochs))
    Trainer(model, timed, settings.model_copy(update={"epochs": 1}), scratch / "run", "limbeck").run()
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    timed.clock.mark()
    return timed.clock


def _outcome(
    job: Job, model: LanguageModel, rows: Sequence[Row], clock: StepClock, reference: float, loaded: int, flops: int
) -> Outcome:
    peak = peak_memory_bytes()
    on_device = torch.cuda.max_memory_allocated() if model.device.type == "cuda" else 0
    return Outcome(
        seconds=reference + clock.seconds,
        reference_seconds=reference,
        rows=len(rows) * job.epochs,
        steps=len(clock.marks) - 2,
        target_tokens=job.epochs * sum(row.num_targets for row in rows),
        peak_memory_bytes=peak,
        peak_device_memory_bytes=on_device,
        loaded_memory_bytes=loaded,
        facts={
            "dtype": "bf16" if model.head.weight.dtype == torch.bfloat16 else "fp32",
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
    found = pair_logps(load(job), items(rows.timed), Dpo().micro_batch_tokens)
    return Outcome(rows=len(rows.timed), facts={"logps": {id_: list(pair) for id_, pair in found.items()}})


def rates(job: Job) -> Outcome:
    """Rates of matrix products and the sizes of a model, for an estimate of how long all will take."""
    model = load(job)
    facts = {"matmul_flops_per_second": matmul_rates(model.device), "sizes": sizes_of(model.network)._asdict()}
    return Outcome(facts=facts)


def main(arguments: Sequence[str]) -> None:
    """Do the job and print its outcome."""
    job = read_job(arguments)
    if job.task == "sweep":
        from benchmarks.sweep_worker import sweep

        report(sweep(job))
        return
    report({"dpo": dpo, "sft": sft, "logps": logps, "rates": rates}[job.task](job))


if __name__ == "__main__":
    main(sys.argv[1:])
