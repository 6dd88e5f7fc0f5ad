"""The sampling part: the same prompts for everybody, useful tokens alone counted, settings found by their speed."""

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import generate_worker, sampling, sampling_worker, vllm_worker
from benchmarks.__main__ import vllm_python
from benchmarks.compare import LIMBECK, Bench, Contender
from benchmarks.contract import Job, Outcome, SamplerSettings
from benchmarks.generate_worker import useful
from benchmarks.models import TINY, random_model
from benchmarks.options import Options
from benchmarks.results import Part, load
from benchmarks.sampling import sweep_points
from benchmarks.sampling_summary import (
    INT8,
    TRANSFORMERS,
    VLLM,
    agreement,
    common_prefix,
    headlines,
    int8_over,
    sweep_lines,
    throughput,
    useful_rows,
)
from benchmarks.sampling_trials import fastest, updated
from benchmarks.sampling_work import (
    Prompt,
    Work,
    grade_school_work,
    read_replies,
    read_work,
    uneven_lengths,
    write_work,
)
from benchmarks.table import tables
from limbeck.errors import InputError
from limbeck.lm.generate import Sampling

WORK = Work([Prompt("w", [5, 6], 3)], [Prompt(name, [7, 8, 9, 10][:n], 6) for n, name in enumerate("abcd", 1)], [2])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights."""
    return random_model(tmp_path_factory.mktemp("sampling") / "model", "llama", TINY)


def sampling_job(folder: Path, scratch: Path, work: Work, **fields: Any) -> Job:
    write_work(scratch / "rows.json", work)
    job = {"task": "sampling", "model": str(folder), "scratch": scratch / "run", "rows": scratch / "rows.json"}
    return Job.model_validate(job | {"replies": scratch / "replies.json", "dtype": "fp32", "batch": 2} | fields)


def test_work_survives_the_way_to_a_worker(tmp_path: Path) -> None:
    write_work(tmp_path / "work.json", WORK)
    assert read_work(tmp_path / "work.json") == WORK


def test_less_work_is_the_first_prompts_and_forced_work_has_lengths_of_its_own() -> None:
    assert [(prompt.id, prompt.max_new_tokens) for prompt in WORK.first(2, 4).timed] == [("a", 4), ("b", 4)]
    forced = WORK.forced_to([9, 1, 5])
    assert [(prompt.id, prompt.max_new_tokens) for prompt in forced.timed] == [("a", 9), ("b", 1), ("c", 5)]
    assert (forced.forced, forced.num_forced_tokens, forced.warm_up) == (True, 15, WORK.warm_up)


@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 5))
def test_uneven_lengths_are_between_one_and_the_longest_and_the_seeds(number: int, longest: int, seed: int) -> None:
    lengths = uneven_lengths(number, longest, seed)
    assert len(lengths) == number
    assert 1 <= min(lengths) <= max(lengths) <= longest
    assert lengths == uneven_lengths(number, longest, seed)


def test_prompts_are_drawn_by_the_seed_and_those_of_the_warm_up_are_others(folder: Path) -> None:
    options = Options(model=str(folder), prompts=3, max_new_tokens=7)
    work = grade_school_work(options)
    assert [prompt.id for prompt in work.timed] == ["gsm/0", "gsm/1", "gsm/2"]
    assert {prompt.max_new_tokens for prompt in work.timed} == {7}
    assert work.stop_tokens == [2]
    assert not {tuple(p.ids) for p in work.timed} & {tuple(p.ids) for p in work.warm_up}
    assert grade_school_work(options) == work
    assert grade_school_work(Options(model=str(folder), prompts=3, seed=2)).timed[0].ids != work.timed[0].ids


def test_what_follows_the_end_of_turn_is_not_useful() -> None:
    assert useful([5, 6, 2, 0, 2], [2]) == [5, 6, 2]
    assert useful([5, 6], [2]) == [5, 6]


def test_replies_are_compared_token_by_token() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2], [1, 2, 4]) == 2
    assert agreement({"a": [1, 2], "b": [1, 5, 6, 7]}, {"a": [1, 2], "b": [1, 9]}) == (0.5, 1.5)
    with pytest.raises(ValueError, match="different prompts"):
        agreement({"a": [1]}, {"b": [1]})


def run(seconds: float, tokens: int = 120, memory: int = 1 << 30, **facts: Any) -> Outcome:
    facts = {"dtype": "fp32"} | facts
    return Outcome(seconds=seconds, rows=12, target_tokens=tokens, peak_memory_bytes=memory, facts=facts)


def outcomes() -> dict[str, dict[int, Outcome]]:
    ours = {0: run(2.0, memory=3 << 30, useful_rows=9, computed_rows=12), 1: run(4.0, useful_rows=12, computed_rows=12)}
    return {LIMBECK: ours, INT8: {0: run(1.0)}, TRANSFORMERS: {0: run(4.0, 60, 2 << 30), 1: run(8.0)}, VLLM: {}}


def test_headlines_compare_useful_tokens_a_second_and_leave_int8_out() -> None:
    contenders = throughput(outcomes())
    summary = {"contenders": contenders, "uneven": {"useful_rows": useful_rows(outcomes())}}
    assert headlines(summary) == {
        "sampling_over_transformers": 3.0,  # the median of 60 / 15 and 30 / 15
        "sampling_over_vllm_cpu": None,  # never finished
        "sampling_peak_memory_over_transformers": 1.25,  # of 3 / 2 and 1
        "sampling_useful_rows": 0.875,  # of 9 / 12 and 1
    }
    assert contenders[LIMBECK]["tokens_per_second"] == 45
    assert contenders[TRANSFORMERS]["mean_new_tokens"] == 7.5
    assert int8_over(outcomes()) == {LIMBECK: 2.0, TRANSFORMERS: 8.0}


def test_along_the_slots_a_line_is_sought_for_the_seconds_of_a_forward_pass() -> None:
    # A pass of 3 ms and 2 ms a slot; 600 tokens are 600 / slots passes.
    points = [{"x": x, "seconds": 600 / x * (0.003 + 0.002 * x), "tokens": 600} for x in (1, 2, 4, 8)]
    line = sweep_lines({"slots": points})["slots"]["line"]
    assert (line["slope"], line["intercept"]) == (pytest.approx(0.002), pytest.approx(0.003))
    assert sweep_lines({"prompts": points})["prompts"]["line"]["largest_deviation"] > 0.1
    assert sweep_lines({"prompts": points[:1]})["prompts"]["line"] is None


def test_sweeps_hold_the_rest_while_one_thing_grows() -> None:
    work = WORK._replace(timed=[Prompt(str(n), [5], 200) for n in range(512)])
    points = sweep_points(Options(slots=64), work)
    assert {axis: list(found) for axis, found in points.items()} == {
        "prompts": [32, 64, 128, 256],
        "new_tokens": [25, 50, 100, 200, 400],
        "slots": [8, 16, 32, 64, 128],
    }
    sizes = {
        axis: {(len(w.timed), w.num_forced_tokens, slots) for w, slots in p.values()} for axis, p in points.items()
    }
    assert sizes["prompts"] == {(n, 64 * n, 64) for n in (32, 64, 128, 256)}
    assert sizes["new_tokens"] == {(64, 64 * n, 64) for n in (25, 50, 100, 200, 400)}
    assert sizes["slots"] == {(128, 128 * 64, n) for n in (8, 16, 32, 64, 128)}


def test_a_change_of_settings_reaches_the_job_and_its_sampler(tmp_path: Path) -> None:
    job = Job(task="sampling", model="m", scratch=tmp_path)
    changed = updated(job, {"batch": 64, "keep_freed_memory": True})
    assert (changed.batch, changed.sampler) == (64, SamplerSettings(keep_freed_memory=True))
    assert changed.environment.keys() == {"MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"}


def test_the_fastest_settings_are_kept_and_failures_passed_over(tmp_path: Path) -> None:
    speeds = {(32, False): 30, (64, False): 50, (128, False): None, (64, True): 60}
    tried = []

    def answer(job: Job, number: int) -> Outcome | None:
        tried.append(number)
        speed = speeds[job.batch, job.sampler.compile]
        return None if speed is None else run(2.0, 2 * speed)

    base = Job(task="sampling", model="m", scratch=tmp_path)
    best = fastest(answer, base, [{"batch": 32}], [{"batch": 64}, {"batch": 128}, {"compile": True}])
    assert best is not None
    assert (best.batch, best.sampler.compile) == (64, True)
    assert tried == [1, 2, 3, 4]
    assert fastest(answer, base, [{"batch": 128}], [{"batch": 64}]) is None


def test_limbeck_and_transformers_write_the_same_tokens(folder: Path, tmp_path: Path) -> None:
    job = sampling_job(folder, tmp_path, WORK)
    found = []
    for worker in (sampling_worker, generate_worker):
        outcome = worker.sample(job)
        found.append(read_replies(job.replies))
        assert outcome.rows == 4
        assert outcome.target_tokens == sum(map(len, found[-1].values())) > 0
    assert found[0] == found[1]


@pytest.mark.skipif(
    "ignore_end_of_turn" not in Sampling.__dataclass_fields__, reason="the engine cannot force lengths yet"
)
def test_forced_replies_have_the_lengths_that_were_asked_for(folder: Path, tmp_path: Path) -> None:
    job = sampling_job(folder, tmp_path, WORK.forced_to([3, 1, 5, 2]))
    outcome = sampling_worker.sample(job)
    assert {id_: len(reply) for id_, reply in read_replies(job.replies).items()} == {"a": 3, "b": 1, "c": 5, "d": 2}
    assert 0 < outcome.facts["useful_rows"] <= outcome.facts["computed_rows"]


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_a_contender_that_is_not_there_is_a_failed_run_with_its_reason(folder: Path, tmp_path: Path) -> None:
    part = Part(tmp_path / "results.json", "sampling", {})
    contender = Contender(VLLM, "vllm_worker", sampling_job(folder, tmp_path, WORK), sys.executable)
    assert Bench(part, tmp_path).run(contender, "repetition", 0) is None
    assert part.runs[0]["failed"] == "ModuleNotFoundError: No module named 'vllm'"
    assert part.runs[0]["settings"] == {"dtype": "fp32", "rows_at_once": 2}


def test_vllms_worker_needs_nothing_but_vllm_and_the_standard_library() -> None:
    tree = ast.parse(Path(vllm_worker.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - sys.stdlib_module_names == {"vllm"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_a_process_is_counted_with_that_of_its_children() -> None:
    code = "import sys; block = bytearray(64 << 20); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    before = sum(vllm_worker.peaks(os.getpid()))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert sum(vllm_worker.peaks(os.getpid())) - before > (64 << 20)
        child.communicate()


def test_an_interpreter_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIMBECK_VLLM_PYTHON", raising=False)
    assert vllm_python({}) is None
    assert vllm_python({"vllm_python": sys.executable}) == Path(sys.executable)
    monkeypatch.setenv("LIMBECK_VLLM_PYTHON", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"no interpreter .*nowhere"):
        vllm_python({})


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed: pip install -e '.[bench]'")
def test_the_whole_part_runs_without_vllm_and_says_that_it_is_left_out(folder: Path, tmp_path: Path) -> None:
    options = Options(
        model=str(folder), results=tmp_path / "results.json", prompts=2, max_new_tokens=2, slots=2, trial_prompts=1,
        quick=True, tiny=True,
    )  # fmt: skip
    sampling.measure(options, tmp_path / "sampling")
    results = load(options.results)
    summary = results["sampling"]["summary"]
    assert summary["contenders"].keys() >= {LIMBECK, TRANSFORMERS}
    assert summary["agreement"][LIMBECK] == {"identical": 1.0, "mean_common_prefix": 2.0}
    assert results["sampling_over_transformers"] > 0
    assert "sampling_over_vllm_cpu" not in results
    told = tables(results)
    assert "vLLM is left out: no interpreter that has it was named" in told
    assert "2 prompts of gsm_symbolic" in told
    if "ignore_end_of_turn" in Sampling.__dataclass_fields__:
        assert summary["uneven"]["contenders"].keys() == {LIMBECK}
        assert [point["tokens"] for point in summary["sweep"]["prompts"]["points"]] == [2]
        assert (tmp_path / "results.sampling.svg").is_file()
