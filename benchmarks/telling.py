"""Single values and runs in words, as the tables of every part tell them."""

from collections.abc import Mapping
from typing import Any

from benchmarks.compare import LIMBECK


def told(settings: Mapping[str, Any]) -> str:
    """Settings in words, without those that are off."""
    return ", ".join(f"{key} {value}" for key, value in settings.items() if value not in (None, False))


def failures(part: Mapping[str, Any], finished: Mapping[str, Any]) -> list[str]:
    """Runs that did not come to their end; trials have a table of their own."""
    failed = {run["contender"]: run["failed"] for run in part["runs"] if "failed" in run and "trial" not in run}
    lines = [f"{name} failed{' once' if name in finished else ''}: {reason}." for name, reason in failed.items()]
    return [text for line in lines for text in ("", line)]


def span(values: list[float]) -> str:
    """Slowest to fastest."""
    return f"{values[0]:.3g} to {values[1]:.3g}"


def times(value: float | None) -> str:
    """A factor in words; nothing where there is none."""
    return "" if value is None else f"{value:.2f} times"


def ratio(name: str, found: Mapping[str, Any]) -> str:
    """limbeck's peak memory over a contender's."""
    over = found.get("limbeck_peak_memory_over")
    if name == LIMBECK:
        return ""
    return "-" if over is None else f"{over:.2f}"


def gib(value: float) -> str:
    """Memory; `none` for 0."""
    return f"{value:.2f} GiB" if value else "none"
