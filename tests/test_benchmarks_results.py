"""Where results are kept and how they are told: nothing lost, nothing overwritten, nothing drifting."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.__main__ import DEFAULT_PARTS, parts_to_run
from benchmarks.compare import AS_IT_COMES, BEST, LIMBECK
from benchmarks.contract import Job, Outcome, Rows, StepClock, TrlSettings, read_rows, write_rows
from benchmarks.inputs import demonstration_rows
from benchmarks.options import Options
from benchmarks.processes import RunFailedError, run_worker
from benchmarks.results import DOCUMENT, RESULTS, ROOT, Part, commit_of, load
from benchmarks.sft import PACKED, headlines, summarise
from benchmarks.sweep import TITLES, draw, training_curves
from benchmarks.table import BEGIN, END, tables, with_tables
from benchmarks.workload import Row
from limbeck.errors import InputError


def test_every_run_is_on_disk_before_the_part_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    part = Part(path, "dpo", {"pairs": 4})
    part.add({"contender": "limbeck", "failed": "killed by SIGKILL"})
    kept = json.loads(path.read_text())["unfinished"]["dpo"]
    assert kept["runs"] == [{"contender": "limbeck", "failed": "killed by SIGKILL"}]
    assert kept["settings"] == {"pairs": 4}
    assert {"date", "versions", "hardware"} <= kept.keys()


def test_a_part_replaces_its_own_keys_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    first = {
        "share_of_matmul_peak": 0.1,
        "peak_memory_over_trl": 0.2,
        "max_abs_logps_difference_fp32": 1e-5,
        "dpo": {"summary": "old"},
        "logps": {"summary": "kept"},
    }
    path.write_text(json.dumps(first))
    part = Part(path, "dpo", {})
    part.add({"contender": "limbeck"})
    assert load(path)["dpo"] == {"summary": "old"}  # until the new one is complete
    part.finish({"new": True}, {"share_of_matmul_peak": 0.5, "peak_memory_over_trl": None})
    results = load(path)
    assert results["share_of_matmul_peak"] == 0.5
    assert "peak_memory_over_trl" not in results  # not measured this time: the old figure is not of this part
    assert results["max_abs_logps_difference_fp32"] == 1e-5
    assert results["logps"] == {"summary": "kept"}
    assert results["dpo"]["summary"] == {"new": True}
    assert "unfinished" not in results


def test_the_document_holds_exactly_what_the_results_say() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_tables(text, load(RESULTS)) == text, "run `python -m benchmarks table`"


def test_a_part_that_was_not_measured_says_so_and_shows_no_table() -> None:
    told = tables({})
    assert "Not measured yet: `make bench WHAT=dpo`." in told
    assert "|" not in told


def test_a_document_without_its_markers_is_an_error() -> None:
    with pytest.raises(InputError, match="has lost the line"):
        with_tables(f"text\n{BEGIN}\n", {})
    assert with_tables(f"a\n{BEGIN}old{END}\nb", {}).endswith(f"{END}\nb")


def test_rows_survive_the_way_to_a_worker(tmp_path: Path) -> None:
    rows = Rows([Row("w", [1], [[2]])], [Row("a", [3, 4], [[5], [6, 7]])])
    write_rows(tmp_path / "rows.json", rows)
    assert read_rows(tmp_path / "rows.json") == rows


def test_the_first_step_is_not_timed() -> None:
    clock = StepClock()
    clock.marks = [0.0, 100.0, 103.0, 107.0]
    assert clock.seconds == 7.0


def test_peak_memory_is_what_was_held_and_not_what_is() -> None:
    code = (
        "from benchmarks.contract import peak_memory_bytes as peak\n"
        "before = peak(); block = bytearray(64 << 20); del block; print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (48 << 20) < int(done.stdout) < (96 << 20)


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    job = Job(task="logps", model=str(tmp_path / "nowhere"), scratch=tmp_path / "run", rows=tmp_path / "missing.json")
    with pytest.raises(RunFailedError, match="missing"):
        run_worker("limbeck_worker", job)


def sft_run(seconds: float, **facts: float) -> Outcome:
    return Outcome(seconds=seconds, target_tokens=120, steps=3, peak_memory_bytes=1 << 30, facts=facts)


def test_the_tables_tell_ratios_settings_and_failures(tmp_path: Path) -> None:
    settings = {
        "model": "m",
        "rows": 8,
        "data": "a.json",
        "target_tokens": 120,
        "rows_a_step": 4,
        "trial_rows": 2,
        "repeats": 1,
    }
    part = Part(tmp_path / "results.json", "sft", settings)
    part.note(trl_settings={AS_IT_COMES: TrlSettings().model_dump(), PACKED: TrlSettings(packed_to=64).model_dump()})
    compiled = TrlSettings(compile=True).model_dump() | {"batch": 4}
    part.add({"contender": "TRL", "trial": 1, "settings": compiled, "failed": "no result within 9 s"})
    facts = {"dtype": "fp32", "recompute": False}
    part.add({"contender": LIMBECK, "repetition": 0, "outcome": Outcome(facts=facts).model_dump()})
    part.add({"contender": BEST, "repetition": 0, "failed": "killed by SIGKILL"})
    outcomes = {LIMBECK: {0: sft_run(2.0)}, AS_IT_COMES: {0: sft_run(6.0)}, PACKED: {0: sft_run(4.0, leak=0.0)}}
    summary = summarise(outcomes)
    part.finish(summary, headlines(summary))
    results = load(tmp_path / "results.json")
    assert results["sft_target_tokens_per_second_over_trl"] == 3.0
    assert results["sft_target_tokens_per_second_over_trl_packed"] == 2.0
    told = tables(results)
    assert f"| {LIMBECK} | 60 (60 to 60) |  | 3 | 1.00 GiB |  |" in told
    assert f"| {AS_IT_COMES} | 20 (20 to 20) | 3.00 times | 3 | 1.00 GiB | 1.00 |" in told
    assert f"{PACKED}: weights fp32, autocast_bf16 True, packed_to 64." in told
    assert "packed rows do not see each other" in told
    assert f"{BEST} failed: killed by SIGKILL." in told
    assert "| weights fp32, autocast_bf16 True, compile True, batch 4 | failed: no result within 9 s |" in told
    assert "dtype: fp32; its activations: kept. Repetitions: 1; rows in a trial of TRL's settings: 2." in told


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed: pip install -e '.[bench]'")
def test_the_figure_is_light_and_the_same_for_the_same_points(tmp_path: Path) -> None:
    points = [{"x": x, "seconds": 2.0 * x, "seconds_per_token": 0.01} for x in (1024, 2048)]
    for name in ("a.svg", "b.svg"):
        draw({"pairs": points, "prompt": points}, tmp_path / name, TITLES, training_curves)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.svg").stat().st_size < 60_000
    assert ">2k<" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def preference_part(**settings: object) -> dict[str, object]:
    """A part of pairs as `Part.finish` writes it; TRL's best settings split the batch of 4."""
    trl = TrlSettings(micro_batch=1)
    trials = [
        {"contender": "TRL", "trial": n, "settings": {"micro_batch": size, "batch": 4}, "outcome": {"seconds": seconds}}
        for n, (size, seconds) in enumerate([(None, 9.0), (1, 3.0)])
    ]
    ours = {"contender": LIMBECK, "repetition": 0, "outcome": {"facts": {"dtype": "bf16"}}}
    speed = {"pairs_per_second": 1.0, "slowest_and_fastest": [1.0, 1.0], "peak_memory_gib": 1.0}
    found = speed | {"peak_device_memory_gib": 0.0}
    best = found | {"limbeck_is_faster_by": 1.5, "limbeck_peak_memory_over": 0.25}
    return {
        "date": "2026-01-01",
        "versions": {},
        "hardware": {"cpu": "c", "cores": 1, "memory_gib": 1.0, "flags": {}},
        "settings": {"model": "m", "pairs": 8, "pairs_a_step": 4, "epochs": 1} | settings,
        "trl_settings": {BEST: trl.model_dump()},
        "summary": {"contenders": {LIMBECK: found, BEST: best}, "share_of_matmul_peak": 0.5},
        "runs": [*trials, ours],
    }


def test_the_whole_batch_is_told_as_an_estimate_and_missing_facts_as_a_dash() -> None:
    told = tables({"dpo": preference_part()})
    assert "all 4 pairs of a step in one micro-batch, limbeck is faster by 4.50 times: an estimate" in told
    assert f"| {BEST} | 1 (1 to 1) | 1.50 times | 1.00 GiB | 0.25 | none |" in told
    assert "dtype: bf16; its activations: -. Repetitions: -; rows in a trial of TRL's settings: -." in told


def test_the_share_of_the_matmul_rate_is_told_of_a_cpu_alone() -> None:
    assert "matrix-product rate: 50.0%" in tables({"dpo": preference_part()})
    assert "matrix-product rate" not in tables({"gpu": preference_part(device="some GPU")})


def test_only_what_figures_depend_on_makes_a_commit_dirty(tmp_path: Path) -> None:
    program = shutil.which("git")
    if program is None:
        pytest.skip("git is not installed")

    def git(*arguments: str) -> None:
        name = ["-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run([program, *name, *arguments], cwd=tmp_path, capture_output=True, check=True)

    assert commit_of(tmp_path) is None
    files = [tmp_path / path.relative_to(ROOT) for path in (RESULTS, DOCUMENT, ROOT / "limbeck" / "recipe.py")]
    git("init")
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("before")
    git("add", ".")
    git("commit", "-m", "first")
    for file in files[:2]:
        file.write_text("after")
    clean = commit_of(tmp_path)
    files[2].write_text("after")
    assert clean is not None
    assert not clean.endswith("dirty")
    assert commit_of(tmp_path) == f"{clean}-dirty"


def test_sft_is_left_out_without_data_unless_it_is_asked_for(tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    assert parts_to_run(None, missing, data_named=False) == [part for part in DEFAULT_PARTS if part != "sft"]
    assert parts_to_run(["dpo"], missing, data_named=False) == ["dpo"]
    for named, data_named in ((["sft"], False), (None, True), (["dpo"], True)):
        with pytest.raises(InputError, match=r"no file .*missing\.json"):
            parts_to_run(named, missing, data_named)
    missing.write_text("[]")
    assert parts_to_run(None, missing, data_named=True) == list(DEFAULT_PARTS)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"output": "b"}', "row 1: 'instruction' is missing"),
        ('{"instruction": "a", "output": ""}', "row 1: 'output' is missing or empty"),
        ('{"instruction": "a", "input": [1], "output": "b"}', "row 1: 'input' is no text"),
        ('{"instruction": "a", "output": "b"}', "holds 1 rows; 12 are needed"),
        ('"a"', "row 1: is no object"),
    ],
)
def test_an_alpaca_file_that_cannot_be_used_says_where(tmp_path: Path, row: str, problem: str) -> None:
    (tmp_path / "rows.json").write_text(f"[{row}]")
    with pytest.raises(InputError, match=problem):
        demonstration_rows(Options(data=tmp_path / "rows.json"), 4)


def test_a_worker_can_be_started_with_an_allocator_that_keeps_what_is_freed(tmp_path: Path) -> None:
    job = Job(task="dpo", model="m", scratch=tmp_path)
    assert job.environment == {}
    kept = job.model_copy(update={"trl": TrlSettings(keep_freed_memory=True)})
    assert kept.environment == {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2147483647"}
