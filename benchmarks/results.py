"""`results.json`: headline figures at the top, and every part with the runs that they come from.

A part that is being measured grows under `unfinished`, written after every run; when it is complete it takes the place
of the part of that name, and of no other.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.hardware import hardware, versions
from limbeck.store import read_json, write_json

RESULTS = Path(__file__).parent / "results.json"
# Which headlines a part owns: a part that is measured again replaces these, and leaves the others.
HEADLINES = {
    "dpo": (
        "dpo_pairs_per_second_over_trl_default",
        "dpo_pairs_per_second_over_trl_best",
        "peak_memory_over_trl",
        "share_of_matmul_peak",
    ),
    "sft": ("sft_target_tokens_per_second_over_trl", "sft_target_tokens_per_second_over_trl_packed"),
    "logps": ("max_abs_logps_difference_fp32",),
    "sweep": (),
    "gpu": (),
}


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
