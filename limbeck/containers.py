"""What the control groups around this process, a container's or a cluster job's, let it have.

Reads Linux's files; elsewhere there are none, and nothing is limited. Imports nothing heavy.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Group(NamedTuple):
    """A control group's folder, and whether it is of the second version, which has one tree for all controllers."""

    folder: Path
    unified: bool


def groups_above(controller: str, root: Path = Path("/")) -> Iterator[Group]:
    """Every control group above this process that `controller` (memory, cpu) may limit: each binds what lies below it.

    `root`: where `proc` and `sys` lie.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for number, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        unified = number == "0"
        if controller not in controllers.split(",") and not unified:
            continue
        base = root / ("sys/fs/cgroup" if unified else f"sys/fs/cgroup/{controller}")
        # Inside a container the path may be that of the host, which is not to be seen: then only the root is there.
        folder = base / path.strip("/")
        yield from (Group(group, unified) for group in (folder, *folder.parents) if group.is_relative_to(base))


def granted_cores(root: Path = Path("/")) -> int | None:
    """How many of the machine's cores this process gets the time of, rounded up; None where nothing says fewer.

    A container with a quota sees all cores of its machine. As many threads share the quota's time, and wait for those
    of them that were stopped until the next period.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [share for group in groups_above("cpu", root) if (share := _share(group)) is not None]
    granted = math.ceil(min(shares, default=there))
    return granted if granted < there else None


def _share(group: Group) -> float | None:
    """Seconds of processor time a second; None where the group does not limit them."""
    names = ("cpu.max",) if group.unified else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    try:
        words = " ".join((group.folder / name).read_text(encoding="utf-8") for name in names).split()
        quota, period = (int(word) for word in words)
    except (OSError, ValueError):  # "max" is no number, and no limit
        return None
    return quota / period if quota > 0 and period > 0 else None  # -1 is none either
