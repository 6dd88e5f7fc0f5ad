"""DPO on one CUDA GPU, on the shape of Qwen2.5-0.5B with random weights; on a machine without one, tiny, on the CPU."""

from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.compare import AS_IT_COMES, BEST, LIMBECK, Bench, Change, Contender, alternate, best_settings
from benchmarks.contract import Job, Rows, TrlSettings, read_rows, write_rows
from benchmarks.dpo import summarise
from benchmarks.options import QUICK_RESULTS, Options
from benchmarks.results import RESULTS, Part
from benchmarks.workload import Shape, pair_rows, pair_shapes, random_ids, warm_up_shapes
from limbeck.console import say

UNSLOTH = "Unsloth and TRL"
_OPTIONAL = {"flash_attn": "FlashAttention", "liger_kernel": "Liger", "unsloth": "Unsloth"}
PAIRS_A_STEP, PAIRS = 64, 512


def measure(options: Options, scratch: Path) -> None:
    """As on the CPU, with bf16 for limbeck and what a GPU offers for TRL."""
    import torch

    cuda = torch.cuda.is_available() and not options.tiny
    if not cuda:
        say(
            "gpu: no CUDA here, so tiny sizes on the CPU: this shows that the comparison runs; its figures mean "
            f"nothing and go into {results_file(options, cuda).name}"
        )
    job = _job(options, scratch, cuda)
    rows = read_rows(job.rows)
    part = Part(results_file(options, cuda), "gpu", _described(options, rows, job.batch, cuda))
    bench = Bench(part, scratch, options.epochs * sum(row.num_targets for row in rows.timed))
    trial = job.model_copy(update={"rows": scratch / "trial.json", "epochs": 1})
    best = best_settings(bench, trial, _starts(job.batch, cuda), _changes(cuda))
    trl = {AS_IT_COMES: TrlSettings(gradient_checkpointing=True)}
    trl |= {BEST: best} if best is not None else {}
    if cuda and find_spec("unsloth") is not None:
        trl[UNSLOTH] = TrlSettings(weights="bf16", precompute_reference=True, micro_batch=8, unsloth=True)
    part.note(
        not_installed=[name for package, name in _OPTIONAL.items() if find_spec(package) is None],
        trl_settings={name: settings.model_dump() for name, settings in trl.items()},
    )
    contenders = [Contender(LIMBECK, "limbeck_worker", job)]
    contenders += [Contender(n, "trl_worker", job.model_copy(update={"trl": s})) for n, s in trl.items()]
    part.finish(summarise(alternate(bench, contenders, options.repeats)), {})


def results_file(options: Options, cuda: bool) -> Path:
    """Where results go: figures without meaning have no place in `results.json`."""
    return QUICK_RESULTS if options.results == RESULTS and not cuda else options.results


def _job(options: Options, scratch: Path, cuda: bool) -> Job:
    """The comparison's job; its rows are written beside it, and those of a trial."""
    from benchmarks.models import QWEN_05B, TINY, random_model

    sizes, batch = (QWEN_05B, PAIRS_A_STEP) if cuda else (TINY, 2)
    model = random_model(scratch / "model", "qwen2", sizes)
    rows = _rows(options, sizes["vocab_size"], batch, cuda)
    write_rows(scratch / "rows.json", rows)
    write_rows(scratch / "trial.json", Rows(rows.warm_up, rows.timed[:batch]))
    return Job(
        task="dpo",
        model=str(model),
        scratch=scratch,
        rows=scratch / "rows.json",
        device="cuda" if cuda else "cpu",
        dtype="bf16",
        batch=batch,
        epochs=options.epochs,
        seed=options.seed,
    )


def _starts(batch: int, cuda: bool) -> list[TrlSettings]:
    """Largest micro-batch first: what does not fit in memory fails and is recorded."""
    if not cuda:
        return [TrlSettings(weights="bf16", autocast_bf16=False, precompute_reference=True)]
    return [
        TrlSettings(weights=weights, autocast_bf16=weights == "fp32", precompute_reference=True, micro_batch=size)
        for weights in ("fp32", "bf16")
        for size in (batch, max(batch // 4, 1), max(batch // 8, 1))
    ]


def _changes(cuda: bool) -> list[Change]:
    found = []
    if cuda and find_spec("flash_attn") is not None:
        found.append(Change({"attention": "flash_attention_2"}))
    if cuda and find_spec("liger_kernel") is not None:
        found.append(Change({"liger": True}))
    return [*found, Change({"group_by_length": True})]


def _rows(options: Options, vocabulary: int, batch: int, cuda: bool) -> Rows:
    ids = random_ids(vocabulary, range(3), options.seed)  # the first three are the tokenizer's special tokens
    if not cuda:
        shapes = [Shape(9, 5, 12), Shape(3, 4, 2), Shape(17, 3, 3), Shape(20, 10, 15)]
        return Rows(pair_rows(shapes[:batch], ids, "warm-up"), pair_rows(shapes, ids, "pair"))
    warm_up = pair_rows(warm_up_shapes(batch), ids, "warm-up")
    return Rows(warm_up, pair_rows(pair_shapes(128 if options.quick else PAIRS, options.seed), ids, "pair"))


def _described(options: Options, rows: Rows, batch: int, cuda: bool) -> dict[str, Any]:
    return {
        "model": "shape of Qwen2.5-0.5B, random weights" if cuda else "two layers of random weights, 32 wide",
        "device": _device(cuda),
        "pairs": len(rows.timed),
        "pairs_a_step": batch,
        "epochs": options.epochs,
        "repeats": options.repeats,
        "seed": options.seed,
        "trial_rows": batch,
        "mean_tokens_a_pair": fmean(len(row.prompt) + row.num_targets for row in rows.timed),
    }


def _device(cuda: bool) -> str:
    import torch

    return torch.cuda.get_device_name() if cuda else "CPU, tiny sizes: no figure of any meaning"
