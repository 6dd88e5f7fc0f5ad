"""How many cores a container's quota grants, from files as Linux writes them."""

import os
from pathlib import Path

import pytest
from linux_files import linux_root

from limbeck import cli
from limbeck.containers import granted_cores

V1 = "3:cpuacct:/x\n2:cpu,cpuset:/job\n"


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(8)), raising=False)


def unified(root: Path, job: str, pod: str = "max 100000\n") -> Path:
    files = {f"sys/fs/cgroup/{folder}/cpu.max": text for folder, text in (("pod", pod), ("pod/job", job))}
    return linux_root(root, {"proc/self/cgroup": "0::/pod/job\n"} | files)


def first_version(root: Path, quota: str) -> Path:
    base = "sys/fs/cgroup/cpu/job/cpu.cfs_"
    files = {f"{base}quota_us": quota, f"{base}period_us": "100000\n"}
    return linux_root(root, {"proc/self/cgroup": V1} | files)


@pytest.mark.parametrize(("quota", "cores"), [("200000 100000\n", 2), ("150000 100000\n", 2), ("5000 100000\n", 1)])
def test_a_quota_grants_as_many_cores_rounded_up(quota: str, cores: int, tmp_path: Path) -> None:
    assert granted_cores(unified(tmp_path, quota)) == cores


def test_the_tightest_quota_of_all_groups_above_binds(tmp_path: Path) -> None:
    assert granted_cores(unified(tmp_path, "max 100000\n", pod="300000 100000\n")) == 3


@pytest.mark.parametrize("quota", ["max 100000\n", "800000 100000\n", "6400000 100000\n"])
def test_a_quota_of_all_cores_and_more_limits_nothing(quota: str, tmp_path: Path) -> None:
    assert granted_cores(unified(tmp_path, quota)) is None


def test_the_first_version_says_quota_and_period_in_two_files_and_minus_one_for_none(tmp_path: Path) -> None:
    assert granted_cores(first_version(tmp_path, "250000\n")) == 3
    assert granted_cores(first_version(tmp_path, "-1\n")) is None


@pytest.mark.parametrize("text", ["", "max", "200000\n", "200000 0\n", "two cores\n"])
def test_a_file_that_says_nothing_limits_nothing(text: str, tmp_path: Path) -> None:
    assert granted_cores(unified(tmp_path, text)) is None
    assert granted_cores(linux_root(tmp_path / "other", {"proc/self/cgroup": "no such line\n"})) is None


def test_without_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert granted_cores(tmp_path) is None


@pytest.mark.parametrize(("granted", "already", "threads"), [(2, None, "2"), (2, "5", "5"), (None, None, None)])
def test_a_command_takes_as_many_threads_as_are_granted_unless_told_otherwise(
    granted: int | None, already: str | None, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"COLUMNS": "80"} | ({"OMP_NUM_THREADS": already} if already else {}))
    monkeypatch.setattr(cli, "granted_cores", lambda: granted)
    monkeypatch.setattr("sys.argv", ["limbeck", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert os.environ.get("OMP_NUM_THREADS") == threads
