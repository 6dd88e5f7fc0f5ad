"""The tables of asking a teacher."""

from collections.abc import Mapping
from typing import Any

from benchmarks.telling import failures, span


def teacher_lines(part: Mapping[str, Any]) -> list[str]:
    """One row a contender and share of faults, then how its requests ended."""
    settings, summary = part["settings"], part["summary"]
    latency = settings["latency_seconds"]
    lines = [
        f"{settings['requests']} requests, {settings['in_flight']} in flight, to a server on this machine that takes "
        f"{1000 * latency[0]:.0f} to {1000 * latency[1]:.0f} ms. Repetitions: {settings['repeats']}.",
        "",
        "| faults | contender | CPU ms a request (least to most) | seconds | peak memory | sent again at most "
        "| of which without a fault before | unaccounted for |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for share, contenders in summary.items():
        for name, found in contenders.items():
            lines.append(
                f"| {float(share):.0%} | {name} | {found['cpu_ms_a_request']:.2f} ({span(found['least_and_most'])}) "
                f"| {found['seconds']:.1f} | {found['peak_memory_mib']:.0f} MiB | {found['resends']} "
                f"| {found['resends_beyond_faults']} | {found['unaccounted_for']} |"
            )
    for share, contenders in summary.items():
        for name, found in contenders.items():
            ended = ", ".join(f"{count} {reason}" for reason, count in sorted(found["ended"].items()))
            lines += ["", f"{name}, {float(share):.0%} faults, the last run ended as: {ended}."]
    finished = {name for contenders in summary.values() for name in contenders}
    return [*lines, *failures(part, dict.fromkeys(finished))]
