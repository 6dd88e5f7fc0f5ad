"""How the time of limbeck's optimizer step grows along one axis: pairs in a step, prompt length, vocabulary."""

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contract import Job, Outcome
from benchmarks.flops import forward_flops, sizes_of
from benchmarks.limbeck_worker import as_compared, items, load, train
from benchmarks.models import random_model
from benchmarks.workload import Row, Shape, mean_shape, pair_rows, random_ids
from limbeck.lm.load import LanguageModel
from limbeck.lm.micro_batch import scoring_tokens, settled
from limbeck.lm.objectives import DpoObjective, pair_logps
from limbeck.recipe.training import Dpo

# A body so small that the head decides, as the vocabulary grows.
_SMALL: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
_PAIRS = 4
_STEPS_OF_THE_LARGEST = 3  # about half of an axis's time goes into its last point


def sweep(job: Job) -> Outcome:
    """Measure every point of the axis in turn."""
    points = []
    model = None if job.axis == "vocabulary" else load(job)
    for value in job.points:
        if model is None or job.axis == "vocabulary":
            folder = random_model(job.scratch / f"vocabulary-{value}", "llama", _SMALL | {"vocab_size": value})
            model = load(job.model_copy(update={"model": str(folder)}))
        steps = min(job.steps, _STEPS_OF_THE_LARGEST) if value == max(job.points) else job.steps
        scratch = job.scratch / f"{job.axis}-{value}"
        points.append({"x": value} | _point(job, model, _rows(job, value, model), steps, scratch))
    return Outcome(facts={"points": points})


def _rows(job: Job, value: int, model: LanguageModel) -> list[Row]:
    shape = mean_shape()
    shapes = [shape] * (value if job.axis == "pairs" else _PAIRS)
    if job.axis == "prompt":
        shapes = [Shape(value, shape.chosen, shape.rejected)] * _PAIRS
    return pair_rows(shapes, random_ids(model.head.out_features, (), job.seed), "pair")


def _point(job: Job, model: LanguageModel, rows: list[Row], steps: int, scratch: Path) -> dict[str, Any]:
    """Seconds of an optimizer step on these rows, the median of several after one that warms up."""
    batch = items(rows)
    settings = Dpo(batch_size=len(rows), epochs=steps, learning_rate=1e-6, nll_weight=0, **as_compared(job))
    settings = settled(settings, model, batch, "limbeck")
    reference = pair_logps(model, batch, scoring_tokens(settings, model.device))
    clock = train(model, DpoObjective(batch, [], reference, settings), batch, settings, scratch).clock
    each = [after - before for before, after in zip(clock.marks[1:], clock.marks[2:], strict=False)]
    tokens = sum(item.num_tokens for item in batch)
    sizes = sizes_of(model.network)
    return {
        "seconds": median(each),
        "steps": each,
        "tokens": tokens,
        "model_flops": 3 * sum(forward_flops(sizes, row) for row in rows),
        "seconds_per_token": median(each) / tokens,
    }
