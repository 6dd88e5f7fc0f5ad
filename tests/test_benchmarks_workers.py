"""The measured processes end to end, on a model of two layers: what they count, and what TRL does with the same ids."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.compare import Bench, Contender
from benchmarks.contract import Job, Outcome, Rows, TrlSettings, write_rows
from benchmarks.limbeck_worker import Timed
from benchmarks.models import TINY, random_model
from benchmarks.options import QUICK_RESULTS, Options
from benchmarks.processes import run_worker
from benchmarks.results import RESULTS, Part, load
from benchmarks.summary import differences
from benchmarks.table import tables
from benchmarks.workload import Row, Shape, pair_rows, random_ids
from limbeck.lm.objectives import DpoObjective
from limbeck.lm.packing import Item
from limbeck.recipe.training import Dpo

needs_trl = pytest.mark.skipif(find_spec("trl") is None, reason="TRL is not installed: pip install -e '.[bench]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, four pairs and eight demonstrations, each with two rows to warm up."""
    path = tmp_path_factory.mktemp("benchmarks")
    random_model(path / "model", "llama", TINY)
    ids = random_ids(300, range(3), seed=1)
    shapes = [Shape(9, 5, 12), Shape(3, 4, 2), Shape(17, 3, 3), Shape(20, 10, 15)]
    write_rows(path / "dpo.json", Rows(pair_rows(shapes[:2], ids, "warm-up"), pair_rows(shapes, ids, "pair")))
    rows = [Row(f"row/{n}", [next(ids) for _ in range(5 + n)], [[next(ids) for _ in range(4 + n)]]) for n in range(10)]
    write_rows(path / "sft.json", Rows(rows[:2], rows[2:]))
    return path


def measured(folder: Path, tmp_path: Path, module: str, task: str, **job: Any) -> Outcome:
    rows = folder / ("sft.json" if task == "sft" else "dpo.json")
    fields = {"task": task, "model": str(folder / "model"), "scratch": tmp_path / module, "rows": rows, "batch": 2}
    return run_worker(module, Job.model_validate(fields | job))


def test_limbecks_worker_trains_on_all_pairs_and_counts_them(folder: Path, tmp_path: Path) -> None:
    outcome = measured(folder, tmp_path, "limbeck_worker", "dpo", epochs=3)
    assert (outcome.rows, outcome.steps, outcome.target_tokens) == (12, 6, 3 * 54)
    assert outcome.seconds > outcome.reference_seconds > 0
    assert outcome.facts["matmul_flops_per_second"].keys() == {"bf16", "fp32"}
    assert outcome.facts["recompute"] is False
    assert outcome.peak_memory_bytes >= outcome.loaded_memory_bytes > 0


def test_a_run_that_trained_on_other_tokens_than_the_rows_hold_is_a_failed_run(folder: Path, tmp_path: Path) -> None:
    job = Job(task="dpo", model=str(folder / "model"), scratch=tmp_path, rows=folder / "dpo.json", batch=2)
    part = Part(tmp_path / "results.json", "dpo", {})
    bench = Bench(part, tmp_path, expected_targets=55)
    assert bench.run(Contender("limbeck", "limbeck_worker", job), "repetition", 0) is None
    assert part.runs[0]["failed"] == "trained on 54 target tokens, and not on the 55 of the rows"


def test_only_rows_whose_losses_were_asked_for_in_timed_steps_count() -> None:
    rows = [Item(name, (1,), ((2, 3),)) for name in "abcd"]
    settings = Dpo(batch_size=2, epochs=1)
    timed = Timed(DpoObjective(rows, [], {}, settings), rows[:2], 1)
    model: Any = None  # losses are yielded when they are asked for, and are not here
    for step in (0, 1, 2):
        step_rows = timed.rows(step)
        if step != 1:
            timed.losses(model, step_rows)
    assert [row.id for row in timed.trained] == ["c", "d"]


def test_limbecks_worker_trains_on_demonstrations(folder: Path, tmp_path: Path) -> None:
    outcome = measured(folder, tmp_path, "limbeck_worker", "sft", epochs=2, dtype="fp32")
    assert (outcome.rows, outcome.steps, outcome.target_tokens) == (16, 8, 2 * sum(range(6, 14)))
    assert outcome.facts["dtype"] == "fp32"


def test_limbecks_scores_are_those_of_one_sequence_at_a_time(folder: Path, tmp_path: Path) -> None:
    ours, plain = (
        measured(folder, tmp_path, module, "logps", dtype="fp32") for module in ("limbeck_worker", "plain_worker")
    )
    assert differences(ours.facts["logps"], plain.facts["logps"]).largest < 1e-4


def test_the_sweep_measures_each_point(folder: Path, tmp_path: Path) -> None:
    outcome = measured(folder, tmp_path, "limbeck_worker", "sweep", axis="prompt", points=[4, 8], steps=4)
    points = outcome.facts["points"]
    # Four pairs: the prompt, and responses of 129 and 125 tokens without their last.
    assert [(point["x"], point["tokens"]) for point in points] == [(4, 4 * 256), (8, 4 * 260)]
    assert [len(point["steps"]) for point in points] == [4, 3]  # fewer of the largest


@needs_trl
def test_trls_worker_trains_on_the_same_pairs(folder: Path, tmp_path: Path) -> None:
    outcome = measured(folder, tmp_path, "trl_worker", "dpo", epochs=3)
    assert (outcome.rows, outcome.steps, outcome.target_tokens) == (12, 6, 3 * 54)
    assert outcome.reference_seconds == 0  # as it comes, within the steps
    assert outcome.facts["train_loss"] == pytest.approx(0.693, abs=0.01)


@needs_trl
def test_trl_scores_the_reference_first_where_told_to(folder: Path, tmp_path: Path) -> None:
    settings = TrlSettings(precompute_reference=True, autocast_bf16=False, micro_batch=1, group_by_length=True)
    settings = settings.model_copy(update={"keep_freed_memory": True})
    outcome = measured(folder, tmp_path, "trl_worker", "dpo", trl=settings)
    assert (outcome.rows, outcome.steps, outcome.target_tokens) == (4, 2, 54)
    assert 0 < outcome.reference_seconds < outcome.seconds


@needs_trl
def test_trls_packed_rows_hold_the_same_targets_and_do_not_see_each_other(folder: Path, tmp_path: Path) -> None:
    settings = TrlSettings(packed_to=64)
    outcome = measured(folder, tmp_path, "trl_worker", "sft", trl=settings, batch=1)
    assert outcome.target_tokens == sum(range(6, 14))
    assert outcome.steps == outcome.facts["packed_rows"] < 8
    assert outcome.facts["leak"] == 0
    assert outcome.facts["change_of_first"] > 0  # of the sequence that was changed


@needs_trl
def test_trls_scores_in_fp32_are_limbecks(folder: Path, tmp_path: Path) -> None:
    ours = measured(folder, tmp_path, "limbeck_worker", "logps", dtype="fp32")
    theirs = measured(folder, tmp_path, "trl_worker", "logps", trl=TrlSettings(autocast_bf16=False))
    assert differences(ours.facts["logps"], theirs.facts["logps"]).largest < 1e-4


@needs_trl
def test_smaller_micro_batches_and_grouping_pad_less(folder: Path, tmp_path: Path) -> None:
    def padded(**trl: Any) -> int:
        outcome = measured(folder, tmp_path, "trl_worker", "padding", trl=TrlSettings.model_validate(trl))
        return int(outcome.facts["padded_tokens"])

    alone = padded(micro_batch=1)
    assert alone == 2 * (21 + 7 + 20 + 35)  # each pair to its own longer sequence
    assert padded() > alone
    assert padded(compile=True) == padded()  # its second warm-up step is none of the timed ones


@needs_trl
def test_the_gpu_comparison_runs_without_a_gpu_and_says_so(tmp_path: Path) -> None:
    options = Options(results=tmp_path / "results.json", epochs=1, repeats=1, quick=True, tiny=True)
    gpu.measure(options, tmp_path / "gpu")
    results = load(options.results)
    assert results["gpu"]["summary"]["contenders"].keys() == {"limbeck", "TRL, as it comes", "TRL, best settings found"}
    assert results["gpu"]["settings"]["model"] == "two layers of random weights, 32 wide"
    assert "no figure of any meaning" in tables(results)


def test_figures_without_meaning_stay_out_of_the_results(tmp_path: Path) -> None:
    assert gpu.results_file(Options(), cuda=True) == RESULTS
    assert gpu.results_file(Options(), cuda=False) == QUICK_RESULTS
    assert gpu.results_file(Options(results=tmp_path / "a.json"), cuda=False) == tmp_path / "a.json"
