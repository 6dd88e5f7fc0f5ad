"""TRL's side: its own trainers, collators and losses, given the same token ids.

Three things are taken over, and nothing that is timed: the data set comes tokenised (`_prepare_dataset` would tokenise
text), the order of the rows is written down so that the first batch warms up (`_get_train_sampler`; the order within an
epoch is TRL's own choice, random or grouped by length), and the clock.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import Sampler
from transformers import TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from benchmarks.contract import Job, Outcome, StepClock, peak_memory_bytes, read_job, read_rows, report
from benchmarks.workload import Row


class Order(Sampler[int]):
    """Places of the data set, written down."""

    def __init__(self, places: Sequence[int]) -> None:
        self.places = places

    def __iter__(self) -> Iterator[int]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


class Counts:
    """Target tokens by optimizer step, counted in the very batches that are trained on."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, torch.Tensor]] = []

    def add(self, step: int, targets: torch.Tensor) -> None:
        """Count a micro-batch of a step by a mask over its tokens, where they lie: no wait for a GPU."""
        self.steps.append((step, targets.sum()))

    def after(self, warm_up_steps: int) -> int:
        """Target tokens of the steps that are timed."""
        return sum(int(targets) for step, targets in self.steps if step >= warm_up_steps)


class Marks(TrainerCallback):
    """Notes when each optimizer step begins, but for the first `unmarked` ones."""

    def __init__(self, clock: StepClock, unmarked: int) -> None:
        self.clock, self.unmarked = clock, unmarked

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the trainer before the first micro-batch of a step."""
        del args, control, kwargs
        if state.global_step >= self.unmarked:
            self.clock.mark()


class TokenisedDpo(DPOTrainer):
    """DPOTrainer on token ids, with a clock on its reference pass where that comes first."""

    def __init__(self, *, warm_up: int, **arguments: Any) -> None:
        self.warm_up = warm_up
        self.order: Order | None = None
        self.scored: list[float] = []  # when each batch of a reference pass was done
        self.reference_seconds = 0.0
        self.counts = Counts()
        super().__init__(**arguments)

    def _prepare_dataset(self, dataset: Dataset, *_: object, **__: object) -> Dataset:
        return dataset

    def _get_train_sampler(self, *_: object) -> Any:
        return self.order

    def training_step(self, model: Any, inputs: Any, *more: Any) -> Any:
        self.counts.add(self.state.global_step, inputs["completion_mask"][:, 1:])
        return super().training_step(model, inputs, *more)

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        found = super().compute_ref_log_probs(model, inputs)
        self.scored.append(time.perf_counter())
        return found

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        with_reference = super()._precompute_ref_logps(dataset, name, batch_size)
        batches_of_warm_up = -(-self.warm_up // batch_size)
        self.reference_seconds = time.perf_counter() - self.scored[batches_of_warm_up - 1]
        return with_reference


class TokenisedSft(SFTTrainer):
    """SFTTrainer on token ids; packing, where asked for, is TRL's own and keeps warm-up rows apart."""

    def __init__(self, *, warm_up: int, **arguments: Any) -> None:
        self.warm_up = warm_up
        self.order: Order | None = None
        self.counts = Counts()
        super().__init__(**arguments)

    def _prepare_dataset(self, dataset: Dataset, *arguments: Any, **more: Any) -> Dataset:
        parts = [range(self.warm_up), range(self.warm_up, len(dataset))]
        prepared = [super(TokenisedSft, self)._prepare_dataset(dataset.select(p), *arguments, **more) for p in parts]
        self.warm_up = len(prepared[0])
        return concatenate_datasets(prepared)

    def _get_train_sampler(self, *_: object) -> Any:
        return self.order

    def training_step(self, model: Any, inputs: Any, *more: Any) -> Any:
        self.counts.add(self.state.global_step, inputs["labels"][:, 1:] != -100)
        return super().training_step(model, inputs, *more)


def warm_up_steps(job: Job) -> int:
    """Steps that are not timed. A compiled model is compiled once more when it meets a second length."""
    return 2 if job.trl.compile else 1


def order(job: Job, lengths: Sequence[int], warm_up: int, batch: int) -> Order:
    """Warm-up rows (they come first in the data set), then every epoch, shuffled as TRL would."""
    generator = torch.Generator().manual_seed(job.seed)
    places = [n % warm_up for n in range(batch)]
    if warm_up_steps(job) > 1:  # the first row, then the last: of two lengths, for all micro-batches
        places = [0] * batch + [warm_up - 1] * batch
    timed = lengths[warm_up:]
    for _ in range(job.epochs):
        if job.trl.group_by_length:
            epoch = get_length_grouped_indices(timed, batch, generator=generator)
        else:
            epoch = torch.randperm(len(timed), generator=generator).tolist()
        places += [warm_up + place for place in epoch]
    return Order(places)


def configuration(job: Job) -> dict[str, Any]:
    """Arguments of TRL's configs: its defaults but for the batch, and what the job sets otherwise."""
    settings = job.trl
    micro_batch = settings.micro_batch or job.batch
    model: dict[str, Any] = {}
    if settings.weights == "bf16":
        model["dtype"] = "bfloat16"
    if settings.attention:
        model["attn_implementation"] = settings.attention
    more: dict[str, Any] = {"torch_compile": True} if settings.compile else {}
    if settings.liger:
        more["use_liger_kernel"] = True
    return more | {
        "output_dir": str(job.scratch / "output"),
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": job.batch // micro_batch,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "bf16": settings.autocast_bf16,
        "num_train_epochs": 1,  # the order holds all epochs
        "save_strategy": "no",  # by default 16 bytes a weight go to disk when training ends; no contender saves
        "disable_tqdm": True,
        "use_cpu": job.device == "cpu",
        "model_init_kwargs": model or None,
        "seed": job.seed,
    }


def dpo(job: Job) -> Outcome:
    """DPOTrainer: reference pass (before, or within the steps) and training."""
    rows = read_rows(job.rows)
    everything = [*rows.warm_up, *rows.timed]
    trainer = dpo_trainer(job, everything, len(rows.warm_up))
    lengths = [len(row.prompt) + max(map(len, row.responses)) for row in everything]
    trainer.order = order(job, lengths, len(rows.warm_up), job.batch)
    return _measure(job, trainer, rows.timed, trainer.reference_seconds)


def dpo_trainer(job: Job, rows: Sequence[Row], warm_up: int) -> TokenisedDpo:
    """TRL's trainer with its model loaded and its reference scored, where it is told to score it first."""
    columns = {
        "prompt_ids": [row.prompt for row in rows],
        "chosen_ids": [row.responses[0] for row in rows],
        "rejected_ids": [row.responses[1] for row in rows],
    }
    config = DPOConfig(precompute_ref_log_probs=job.trl.precompute_reference, **configuration(job))
    model: Any = job.model
    if job.trl.unsloth:
        model = _unsloth_model(job, config)
    return TokenisedDpo(warm_up=warm_up, model=model, args=config, train_dataset=Dataset.from_dict(columns))


def _unsloth_model(job: Job, config: DPOConfig) -> Any:
    from unsloth import FastLanguageModel, PatchDPOTrainer

    PatchDPOTrainer()
    config.model_init_kwargs = None
    longest: int = config.max_length
    model, _ = FastLanguageModel.from_pretrained(
        job.model, max_seq_length=longest, dtype=torch.bfloat16, load_in_4bit=False, full_finetuning=True
    )
    return model


def sft(job: Job) -> Outcome:
    """SFTTrainer: loss on responses only, through its own labels column."""
    rows = read_rows(job.rows)
    everything = [*rows.warm_up, *rows.timed]
    columns = {
        "input_ids": [row.prompt + row.responses[0] for row in everything],
        "labels": [[-100] * len(row.prompt) + row.responses[0] for row in everything],
    }
    packing = {"packing": True, "max_length": job.trl.packed_to} if job.trl.packed_to else {}
    config = SFTConfig(**configuration(job), **packing)
    trainer = TokenisedSft(
        warm_up=len(rows.warm_up), model=job.model, args=config, train_dataset=Dataset.from_dict(columns)
    )
    lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    trainer.order = order(job, lengths, trainer.warm_up, job.batch)
    outcome = _measure(job, trainer, rows.timed, 0.0)
    if not job.trl.packed_to:
        return outcome
    facts = {"packed_rows": len(trainer.train_dataset) - trainer.warm_up} | _leak_between_packed_rows(trainer)
    return outcome.model_copy(update={"facts": outcome.facts | facts})


def _measure(job: Job, trainer: Any, rows: Sequence[Row], reference_seconds: float) -> Outcome:
    clock = StepClock()
    trainer.add_callback(Marks(clock, warm_up_steps(job) - 1))
    loaded = peak_memory_bytes()
    result = trainer.train()
    cuda = job.device == "cuda"
    if cuda:
        torch.cuda.synchronize()
    clock.mark()
    return Outcome(
        seconds=reference_seconds + clock.seconds,
        reference_seconds=reference_seconds,
        rows=len(rows) * job.epochs,
        steps=len(clock.marks) - 2,
        target_tokens=trainer.counts.after(warm_up_steps(job)),
        peak_memory_bytes=peak_memory_bytes(),
        peak_device_memory_bytes=torch.cuda.max_memory_allocated() if cuda else 0,
        loaded_memory_bytes=loaded,
        facts={"train_loss": result.training_loss},
    )


def _leak_between_packed_rows(trainer: Any) -> dict[str, float]:
    """How far log-probabilities of a packed row move, in nats, when its first sequence is changed.

    `leak`: those of the other sequences; 0 where they do not see it. `change_of_first`: its own, which must move.
    """
    row = next(r for r in trainer.train_dataset if len(r["seq_lengths"]) > 1)
    first = row["seq_lengths"][0]
    changed = row | {"input_ids": [max(id_ - 1, 0) for id_ in row["input_ids"][:first]] + row["input_ids"][first:]}
    labels = row["input_ids"]  # predicted everywhere, so that the first sequence is looked at as a whole
    found = []
    for version in (row, changed):
        inputs = trainer._prepare_inputs(trainer.data_collator([version | {"labels": labels}]))
        with torch.no_grad():
            found.append(trainer.model(**inputs, fused_lm_head=True).log_probs[0].float())
    moved = (found[0] - found[1]).abs()  # place i predicts token i + 1
    return {"leak": float(moved[first:].max()), "change_of_first": float(moved[: first - 1].max())}


def logps(job: Job) -> Outcome:
    """Summed log-probabilities by TRL's own `compute_ref_log_probs`, in padded batches as it would train on."""
    rows = read_rows(job.rows).timed
    trainer = dpo_trainer(job, rows, 0)
    found: dict[str, list[float]] = {}
    for at in range(0, len(rows), job.batch):
        part = range(at, min(at + job.batch, len(rows)))
        inputs = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[n] for n in part]))
        chosen, rejected = trainer.compute_ref_log_probs(trainer.ref_model, inputs)
        pairs = zip(chosen.tolist(), rejected.tolist(), strict=True)
        found |= {rows[n].id: list(pair) for n, pair in zip(part, pairs, strict=True)}
    return Outcome(rows=len(rows), facts={"logps": found})


def padding(job: Job) -> Outcome:
    """Count the tokens, padding included, that the job's order and micro-batches would feed to the model; no model."""
    rows = read_rows(job.rows)
    lengths = [len(row.prompt) + max(map(len, row.responses)) for row in (*rows.warm_up, *rows.timed)]
    places = order(job, lengths, len(rows.warm_up), job.batch).places[warm_up_steps(job) * job.batch :]
    size = job.trl.micro_batch or job.batch
    parts = [places[at : at + size] for at in range(0, len(places), size)]
    each = len(rows.timed[0].responses)
    return Outcome(facts={"padded_tokens": sum(each * len(part) * max(lengths[n] for n in part) for part in parts)})


def main(arguments: Sequence[str]) -> None:
    """Do the job and print its outcome."""
    job = read_job(arguments)
    tasks = {"dpo": dpo, "sft": sft, "logps": logps, "padding": padding}
    report(tasks[job.task](job))


if __name__ == "__main__":
    main(sys.argv[1:])
