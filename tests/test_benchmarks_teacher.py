"""The measurement of a teacher's client: its account holds the client against the server's tally."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import teacher
from benchmarks.__main__ import openai_python
from benchmarks.compare import LIMBECK
from benchmarks.contract import Outcome
from benchmarks.options import Options
from benchmarks.table import tables
from benchmarks.teacher_prompts import prompt
from benchmarks.teacher_summary import OPENAI, headlines, summarise
from limbeck.api.faults import Tally
from limbeck.api.faulty_ledger import key_of
from limbeck.errors import InputError


def test_a_small_measurement_runs_from_end_to_end_and_accounts_for_every_request(tmp_path: Path) -> None:
    options = Options(results=tmp_path / "results.json", requests=40, in_flight=8, repeats=1)
    teacher.measure(options, tmp_path / "scratch")
    results = json.loads(options.results.read_text())
    assert results["teacher_requests_unaccounted_for"] == 0
    assert results["teacher_resends_beyond_faults"] == 0
    assert results["teacher_client_cpu_ms_a_request"] > 0
    assert "teacher_client_cpu_over_openai" not in results  # no interpreter was named
    assert results["teacher"]["left_out"] == {OPENAI: teacher.NO_OPENAI}
    assert sum(results["teacher"]["summary"]["0.05"][LIMBECK]["ended"].values()) == 40
    assert "| 0% | limbeck | " in tables(results)


def test_every_request_is_known_to_the_server_by_its_own_mark() -> None:
    assert [key_of(prompt(number).encode()) for number in range(3)] == ["load.0", "load.1", "load.2"]


def test_what_the_server_never_saw_or_the_store_does_not_hold_is_unaccounted_for() -> None:
    tally = Tally.model_validate({"arrivals": {"a": [{"how": "answered"}], "b": [{"how": "answered"}]}})
    outcome = Outcome(rows=3, facts={"states": {"done": 1, "sent": 1, "failed": 1}})
    assert teacher.account(tally, outcome, 3)["unaccounted_for"] == 2
    assert teacher.account(tally, Outcome(rows=2), 2)["unaccounted_for"] == 0  # a client without a store


def test_figures_are_medians_of_cpu_and_the_worst_of_every_count() -> None:
    def run(name: str, share: float, cpu: float, beyond: int) -> dict[str, object]:
        outcome = Outcome(rows=1000, peak_memory_bytes=2**20, facts={"cpu_seconds": cpu, "ended": {"answered": 1000}})
        counts = {"resends": 9, "resends_beyond_faults": beyond, "unaccounted_for": 0, "most_at_once": 4}
        return {"contender": name, "share": share, "outcome": outcome.model_dump(), "server": counts}

    runs = [run(LIMBECK, 0.05, cpu, beyond) for cpu, beyond in ((1.0, 0), (3.0, 2), (1.2, 0))]
    runs += [run(LIMBECK, 0.0, 0.9, 0), run(OPENAI, 0.05, 2.4, 0), {"contender": OPENAI, "share": 0.0, "failed": "no"}]
    found = headlines(summarise(runs))
    assert found["teacher_client_cpu_ms_a_request"] == pytest.approx(1.2)
    assert found["teacher_client_cpu_ms_a_request_without_faults"] == pytest.approx(0.9)
    assert found["teacher_client_cpu_over_openai"] == pytest.approx(0.5)
    assert found["teacher_resends_beyond_faults"] == 2


def test_an_interpreter_that_is_not_there_is_refused_and_none_is_no_error(tmp_path: Path) -> None:
    assert openai_python({"openai_python": sys.executable}) == Path(sys.executable)
    with pytest.raises(InputError, match="--openai-python or LIMBECK_OPENAI_PYTHON"):
        openai_python({"openai_python": str(tmp_path / "none")})
