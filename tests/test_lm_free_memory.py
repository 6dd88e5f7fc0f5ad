"""How much memory is free: the machine's figures and the limits of control groups, from files as Linux writes them."""

import errno
import os
from pathlib import Path

import pytest
import torch
from linux_files import linux_root

from limbeck.errors import TrainingError
from limbeck.lm.free_memory import Memory, device_memory, is_out_of_memory, machine_memory
from limbeck.lm.memory import memory_told

MIB = 2**20
UNLIMITED_V1 = "9223372036854771712"


def system(root: Path, cgroup: str = "0::/\n", **files: str) -> Path:
    """A root folder with 1,000 MiB, 600 of them available, and what else `files` say (`__` stands for `/`)."""
    written = {
        "proc/meminfo": "MemTotal:        1024000 kB\nMemFree:  10 kB\nMemAvailable:     614400 kB\nSwapTotal: 0 kB\n",
        "proc/self/cgroup": cgroup,
    }
    return linux_root(root, {name.replace("__", "/"): text for name, text in (written | files).items()})


def v2(folder: str, limit: str, current: int, inactive_file: int = 0) -> dict[str, str]:
    base = f"sys/fs/cgroup/{folder}"
    return {
        f"{base}memory.max": f"{limit}\n",
        f"{base}memory.current": f"{current}\n",
        f"{base}memory.stat": f"anon 5\ninactive_file {inactive_file}\n",
    }


def v1(folder: str, limit: str, usage: int, inactive_file: int = 0) -> dict[str, str]:
    base = f"sys/fs/cgroup/memory/{folder}"
    return {
        f"{base}memory.limit_in_bytes": f"{limit}\n",
        f"{base}memory.usage_in_bytes": f"{usage}\n",
        f"{base}memory.stat": f"inactive_file 1\ntotal_inactive_file {inactive_file}\n",
    }


def test_without_limits_the_machine_decides_and_swap_counts_only_in_the_total(tmp_path: Path) -> None:
    assert machine_memory(system(tmp_path)) == Memory(600 * MIB, 1000 * MIB)
    meminfo = (tmp_path / "proc/meminfo").read_text().replace("SwapTotal: 0", "SwapTotal: 2048")
    assert machine_memory(system(tmp_path, **{"proc/meminfo": meminfo})) == Memory(600 * MIB, 1002 * MIB)


@pytest.mark.parametrize("version", [v1, v2])
def test_a_container_may_take_what_its_limit_leaves_and_file_pages_come_back(version: object, tmp_path: Path) -> None:
    cgroup, files = (
        ("0::/\n", v2("", str(400 * MIB), 300 * MIB, 50 * MIB))
        if version is v2
        else ("4:memory:/\n", v1("", str(400 * MIB), 300 * MIB, 50 * MIB))
    )
    assert machine_memory(system(tmp_path, cgroup, **files)) == Memory(150 * MIB, 400 * MIB)


def test_the_tightest_of_all_groups_above_the_process_binds(tmp_path: Path) -> None:
    files = v2("a/b/", "max", 7 * MIB) | v2("a/", str(200 * MIB), 20 * MIB) | v2("", str(500 * MIB), 400 * MIB)
    assert machine_memory(system(tmp_path, "0::/a/b\n", **files)) == Memory(100 * MIB, 200 * MIB)


def test_a_limit_of_another_group_does_not_bind(tmp_path: Path) -> None:
    files = v2("other/", str(2 * MIB), 0) | v2("own/", "max", 0)
    assert machine_memory(system(tmp_path, "0::/own\n", **files)) == Memory(600 * MIB, 1000 * MIB)


def test_a_path_of_the_hosts_that_a_container_does_not_see_leads_to_the_containers_own_limit(tmp_path: Path) -> None:
    lines = "9:cpu,cpuacct:/docker/77\n4:memory:/docker/77\n0::/\n"
    files = v1("", str(300 * MIB), 100 * MIB)
    assert machine_memory(system(tmp_path, lines, **files)) == Memory(200 * MIB, 300 * MIB)


def test_no_limit_in_the_first_version_is_a_huge_number(tmp_path: Path) -> None:
    assert machine_memory(system(tmp_path, "4:memory:/x\n", **v1("x/", UNLIMITED_V1, 9 * MIB))).free == 600 * MIB


def test_a_group_over_its_limit_has_nothing_free(tmp_path: Path) -> None:
    assert machine_memory(system(tmp_path, **v2("", str(10 * MIB), 11 * MIB))).free == 0


def test_a_system_that_does_not_say_what_is_free_is_taken_to_have_half(tmp_path: Path) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine_memory(tmp_path) == Memory(total // 2, total)


def test_this_machine_has_some_memory_and_less_of_it_free() -> None:
    free, total = device_memory(torch.device("cpu"))
    assert 0 < free < total


USED_UP = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]
OTHER = [RuntimeError("shapes do not match"), OSError(errno.ENOSPC, "disk full"), ValueError("out of memory lane")]


@pytest.mark.parametrize("error", USED_UP, ids=str)
def test_memory_that_is_used_up_is_known_on_every_device_and_said_in_one_sentence(error: Exception) -> None:
    assert is_out_of_memory(error)
    for device, advice in (("cpu", "LoRA. What"), ("cuda", 'model.device = "cpu"')):
        told = pytest.raises(TrainingError, match="SFT: memory ran out; what would help: a lower micro_batch_tokens")
        with told as caught, memory_told("SFT", torch.device(device)):
            raise error
        assert advice in str(caught.value)


@pytest.mark.parametrize("error", OTHER, ids=str)
def test_other_errors_are_left_as_they_are(error: Exception) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as caught, memory_told("SFT", torch.device("cpu")):
        raise error
    assert caught.value is error
