"""`results.json`: headline figures at the top, and every part with the runs that they come from.

A part that is being measured grows under `unfinished`, written after every run; when it is complete it takes the place
of the part of that name, and of no other. With it stands what figures depend on: the machine, and the versions.
"""

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from limbeck.store import read_json, write_json

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
DOCUMENT = ROOT / "docs" / "performance.md"
FIGURE = ROOT / "docs" / "figures" / "training_sweep.svg"
SAMPLING_FIGURE = ROOT / "docs" / "figures" / "sampling_sweep.svg"
# Which headlines a part owns: a part that is measured again replaces these, and leaves the others.
HEADLINES = {
    "dpo": (
        "dpo_pairs_per_second_over_trl_default",
        "dpo_pairs_per_second_over_trl_best",
        "dpo_pairs_per_second_over_trl_best_whole_batch",
        "peak_memory_over_trl",
        "peak_memory_over_trl_best",
        "share_of_matmul_peak",
    ),
    "sft": (
        "sft_target_tokens_per_second_over_trl",
        "sft_target_tokens_per_second_over_trl_best",
        "sft_target_tokens_per_second_over_trl_packed",
    ),
    "logps": ("max_abs_logps_difference_fp32",),
    "sweep": (),
    "gpu": (),
    "sampling": (
        "sampling_over_transformers",
        "sampling_over_vllm_cpu",
        "sampling_peak_memory_over_transformers",
        "sampling_useful_rows",
    ),
    "sampling_gpu": (),
    "teacher": (
        "teacher_client_cpu_ms_a_request",
        "teacher_client_cpu_ms_a_request_without_faults",
        "teacher_client_cpu_over_openai",
        "teacher_resends_beyond_faults",
        "teacher_requests_unaccounted_for",
        "teacher_peak_memory_mib",
    ),
}
_PACKAGES = ("limbeck", "torch", "transformers", "trl", "peft", "accelerate", "datasets")
_FLAGS = ("amx_tile", "amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd", "bf16")


def load(path: Path) -> dict[str, Any]:
    """All results so far; empty where there is no file."""
    return read_json(path) if path.is_file() else {}


class Part:
    """One part being measured."""

    def __init__(self, path: Path, name: str, settings: dict[str, Any]) -> None:
        self.path, self.name = path, name
        self.runs: list[dict[str, Any]] = []
        self._head = {
            "date": datetime.now(UTC).date().isoformat(),
            "versions": versions(),
            "hardware": hardware(),
            "settings": settings,
        }

    def note(self, **facts: Any) -> None:
        """Add to what is said of the part as a whole."""
        self._head |= facts

    def add(self, run: dict[str, Any]) -> None:
        """Keep one run, finished or failed, on disk."""
        self.runs.append(run)
        results = load(self.path)
        results.setdefault("unfinished", {})[self.name] = self._head | {"runs": self.runs}
        write_json(self.path, results)

    def finish(self, summary: dict[str, Any], headlines: dict[str, float | None]) -> None:
        """Put the complete part in its place; a headline without a value is left out."""
        results = load(self.path)
        results.get("unfinished", {}).pop(self.name, None)
        if not results.get("unfinished", True):
            del results["unfinished"]
        for key in HEADLINES[self.name]:
            results.pop(key, None)
        figures = {key: value for key, value in headlines.items() if value is not None}
        parts = {key: value for key, value in results.items() if isinstance(value, dict)}
        others = {key: value for key, value in results.items() if key not in parts}
        parts[self.name] = self._head | {"summary": summary, "runs": self.runs}
        write_json(self.path, others | figures | parts)


def versions() -> dict[str, str]:
    """Versions by package; `limbeck` with the commit where there is one, a package that is not there left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    commit = commit_of(ROOT)
    return found | ({"commit": commit} if commit else {})


def commit_of(root: Path) -> str | None:
    """The commit that is checked out, `-dirty` where a file differs that figures can depend on; None where none is.

    What a measurement itself writes (results, document, figure) makes nothing dirty.
    """
    git = shutil.which("git")
    if git is None:
        return None

    def said(*arguments: str) -> str:
        done = subprocess.run([git, *arguments], capture_output=True, text=True, cwd=root, check=False)
        return done.stdout.strip()

    commit = said("rev-parse", "--short", "HEAD")
    files = (RESULTS, DOCUMENT, FIGURE, SAMPLING_FIGURE)
    written = [f":(exclude){path.relative_to(ROOT).as_posix()}" for path in files]
    changed = said("status", "--porcelain", "--untracked-files=no", "--", ".", *written)
    return commit + ("-dirty" if changed else "") if commit else None


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
