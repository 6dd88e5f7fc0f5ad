"""SFT, the reference pass, DPO and sampling on the shape of Qwen2.5-0.5B with random weights: throughput and memory.

`python -m benchmarks.gpu_stages --out FILE`: a few hundred steps of each on a CUDA GPU; where there is none, or with
`--tiny`, a few steps of a model of two layers: that shows that all of it runs, and its figures mean nothing. Nothing is
compared with anybody (`python -m benchmarks run --what gpu` does that): this is what a first run on a GPU can expect.
Training is measured in processes of its own, each after a warm-up step.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.contract import Job, Outcome, Rows, peak_memory_bytes, write_rows
from benchmarks.models import QWEN_05B, TINY, random_model
from benchmarks.processes import run_worker
from benchmarks.results import hardware, versions
from benchmarks.workload import Row, Shape, pair_rows, pair_shapes, random_ids, warm_up_shapes
from limbeck.console import say
from limbeck.store import write_json

GIB = 2**30
SPECIAL_IDS = range(3)  # the first three are the tokenizer's special tokens


class Sizes(NamedTuple):
    """How much is measured; a batch is the paper's 16 rows where it is meant."""

    model: dict[str, Any]
    device: Literal["cpu", "cuda"]
    batch: int
    sft_steps: int
    dpo_steps: int
    prompts: int
    new_tokens: int


FULL = Sizes(QWEN_05B, "cuda", batch=16, sft_steps=300, dpo_steps=200, prompts=512, new_tokens=256)
SMALL = Sizes(TINY, "cpu", batch=2, sft_steps=3, dpo_steps=2, prompts=4, new_tokens=8)


class Measured(NamedTuple):
    """One stage: `unit` is of what `per_second` counts; memory on the device, of a CPU's process as a whole."""

    stage: str
    steps: int
    seconds: float
    per_second: float
    unit: str
    peak_memory_bytes: int


def measure(sizes: Sizes, scratch: Path, seed: int = 1) -> list[Measured]:
    """Every stage in turn, in `scratch`."""
    say(f"random weights: {sizes.model['num_hidden_layers']} layers, {sizes.model['hidden_size']} wide")
    model = random_model(scratch / "model", "qwen2", sizes.model)
    sft = _trained("sft", sizes.sft_steps, sizes, model, scratch, seed)
    dpo = _trained("dpo", sizes.dpo_steps, sizes, model, scratch, seed)
    training = dpo.seconds - dpo.reference_seconds
    found = [
        _measured("SFT", sft, sft.seconds, sft.target_tokens, "target tokens"),
        _measured("reference pass", dpo, dpo.reference_seconds, dpo.rows, "pairs")._replace(steps=0),
        _measured("DPO", dpo, training, dpo.rows, "pairs"),
    ]
    return [*found, _sampled(sizes, model, seed)]


def _trained(task: Literal["sft", "dpo"], steps: int, sizes: Sizes, model: Path, scratch: Path, seed: int) -> Outcome:
    ids = random_ids(sizes.model["vocab_size"], SPECIAL_IDS, seed)
    number = steps * sizes.batch
    tiny = sizes.device == "cpu"
    shapes = [Shape(9, 5, 12)] * number if tiny else pair_shapes(number, seed)
    first = [Shape(9, 5, 12)] * sizes.batch if tiny else warm_up_shapes(sizes.batch)
    rows = Rows(pair_rows(first, ids, "warm-up"), pair_rows(shapes, ids, "row"))
    if task == "sft":  # the chosen responses alone
        rows = Rows(*([Row(row.id, row.prompt, row.responses[:1]) for row in part] for part in rows))
    path = scratch / f"{task}.json"
    write_rows(path, rows)
    say(f"{task}: {steps} steps of {sizes.batch} rows")
    job = Job(task=task, model=str(model), scratch=scratch / task, rows=path, device=sizes.device,
              dtype="fp32" if tiny else "bf16", batch=sizes.batch, epochs=1, seed=seed)  # fmt: skip
    return run_worker("limbeck_worker", job)


def _measured(stage: str, outcome: Outcome, seconds: float, counted: int, unit: str) -> Measured:
    memory = outcome.peak_device_memory_bytes or outcome.peak_memory_bytes
    return Measured(stage, outcome.steps, seconds, counted / seconds, unit, memory)


def _sampled(sizes: Sizes, model: Path, seed: int) -> Measured:
    """Replies to random prompts at temperature 1; random weights hardly ever end a turn, so all have full length."""
    import torch

    from limbeck.lm.generate import Sampling, generate
    from limbeck.lm.load import load_model
    from limbeck.lm.samples import PromptIds

    say(f"sampling: {sizes.prompts} prompts, {sizes.new_tokens} new tokens")
    cuda = sizes.device == "cuda"
    loaded = load_model(str(model), torch.device(sizes.device), torch.bfloat16 if cuda else torch.float32)
    ids, dice = random_ids(sizes.model["vocab_size"], SPECIAL_IDS, seed + 1), random.Random(seed)
    prompts = [
        PromptIds(f"prompt/{number}", tuple(next(ids) for _ in range(dice.randint(20, 230))))
        for number in range(sizes.prompts)
    ]
    # Random weights find all words alike: without top-k nearly every draw would sort the whole vocabulary.
    sampling = Sampling(sizes.new_tokens, temperature=1.0, top_k=50, seed=seed)
    list(generate(loaded, prompts[:2], sampling))  # compiles what is compiled once
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    tokens = sum(len(sample.ids) for sample in generate(loaded, prompts, sampling))
    seconds = time.perf_counter() - started
    memory = torch.cuda.max_memory_allocated() if cuda else peak_memory_bytes()
    return Measured("sampling", 0, seconds, tokens / seconds, "new tokens", memory)


def table(found: Sequence[Measured], device: str) -> str:
    """Markdown for `docs/performance.md`."""
    lines = [
        f"Shape of Qwen2.5-0.5B, random weights, on {device}.", "",
        "| stage | steps | seconds | a second | peak memory |", "|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {one.stage} | {one.steps or ''} | {one.seconds:.1f} | {one.per_second:,.0f} {one.unit} "
        f"| {one.peak_memory_bytes / GIB:.2f} GiB |"
        for one in found
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write the figures with machine and versions."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_stages", description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file of the figures; without it, the table is all")
    parser.add_argument("--tiny", action="store_true", help="a model of two layers on the CPU")
    chosen = parser.parse_args(arguments)
    cuda = torch.cuda.is_available() and not chosen.tiny
    if not cuda:
        say("no CUDA here, or --tiny: a model of two layers on the CPU; its figures mean nothing")
    sizes = FULL if cuda else SMALL
    with tempfile.TemporaryDirectory(prefix="limbeck-gpu-") as folder:
        found = measure(sizes, Path(folder))
    device = torch.cuda.get_device_name() if cuda else "a CPU, two layers: no figure of any meaning"
    if chosen.out:
        facts = {"device": device, "hardware": hardware(), "versions": versions(), "batch": sizes.batch}
        write_json(chosen.out, facts | {"stages": [one._asdict() for one in found]})
    sys.stdout.write(table(found, device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
