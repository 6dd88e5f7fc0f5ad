"""What figures depend on: the machine, and the versions of everything that computed them."""

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

_PACKAGES = ("limbeck", "torch", "transformers", "trl", "peft", "accelerate", "datasets")
_FLAGS = ("amx_tile", "amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd", "bf16")


def versions() -> dict[str, str]:
    """Versions by package; `limbeck` with the commit where there is one, a package that is not there left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


def _commit() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return done.stdout.strip() or None


def hardware() -> dict[str, object]:
    """CPU model, cores that may be used, memory, and which of the instructions for bf16 and fp32 products it has."""
    information = Path("/proc/cpuinfo")
    text = information.read_text(encoding="utf-8") if information.is_file() else ""
    lines = (line.partition(":") for line in text.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in lines}  # of the last core
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "flags": {flag: flag in flags for flag in _FLAGS if flag in flags or flag.startswith(("amx", "avx512_bf16"))},
        "system": f"{platform.system()} {platform.machine()}",
    }
