"""How much memory there is and how much of it is free: of the GPU, of the machine, of the container around us.

Knows nothing of models. Reads what the operating system says; where it says nothing, guesses low.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from limbeck.containers import groups_above

# A system without /proc (macOS) says what there is, not what is free: half of it is taken to be.
_FREE_SHARE_UNKNOWN = 0.5
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory")


class Memory(NamedTuple):
    """Bytes that could be taken now, and bytes there are at all (swap space included)."""

    free: int
    total: int


class _Names(NamedTuple):
    """What a version of Linux's control groups calls its files."""

    limit: str
    usage: str
    reclaimable: str  # a line of memory.stat: file pages that the kernel gives back before it kills


_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Names("memory.max", "memory.current", "inactive_file")


def device_memory(device: torch.device) -> Memory:
    """Memory for tensors on `device`, in bytes; what torch holds in its pool without using it counts as free."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return Memory(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total)
    machine = machine_memory()
    if device.type == "mps":  # one memory for processor and GPU, of which the GPU may take a share
        most = torch.mps.recommended_max_memory()
        free = most - torch.mps.current_allocated_memory()
        return Memory(min(machine.free, free), min(machine.total, most))
    return machine


def machine_memory(root: Path = Path("/")) -> Memory:
    """The smallest of what the machine has and what each control group around this process may take.

    `root`: where `proc` and `sys` lie.
    """
    known = _read_numbers(root / "proc/meminfo")  # kibibytes
    if "MemAvailable:" not in known:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Memory(int(total * _FREE_SHARE_UNKNOWN), total)
    swap = 1024 * known.get("SwapTotal:", 0)
    limits = [Memory(1024 * known["MemAvailable:"], 1024 * known["MemTotal:"]), *_limits(root)]
    return Memory(max(min(limit.free for limit in limits), 0), min(limit.total for limit in limits) + swap)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory is used up; on a CPU and Apple's GPU, torch has no error class of its own for it."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def _limits(root: Path) -> Iterator[Memory]:
    for folder, unified in groups_above("memory", root):
        names = _V2 if unified else _V1
        try:
            limit = (folder / names.limit).read_text(encoding="utf-8").strip()
            usage = int((folder / names.usage).read_text(encoding="utf-8"))
        except OSError:
            continue
        if limit != "max":
            back = _read_numbers(folder / "memory.stat").get(names.reclaimable, 0)
            yield Memory(int(limit) - usage + back, int(limit))


def _read_numbers(path: Path) -> dict[str, int]:
    """The lines `name number ...` of a file of the kernel's; nothing where there is no such file."""
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
