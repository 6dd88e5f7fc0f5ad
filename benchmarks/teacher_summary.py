"""From runs of a teacher's client to its figures: CPU a request, re-sends, memory. Pure."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.compare import LIMBECK

OPENAI = "openai, AsyncOpenAI"


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By share of faults and contender: medians over the repetitions, and the worst of every count."""
    found: dict[str, Any] = {}
    for share, name in dict.fromkeys((run["share"], run["contender"]) for run in runs):
        mine = [run for run in runs if (run["share"], run["contender"]) == (share, name) and "outcome" in run]
        if mine:
            found.setdefault(str(share), {})[name] = _figures(mine)
    return found


def headlines(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures at the top of the results."""
    shares = sorted(summary, key=float)
    with_faults = summary[shares[-1]] if shares else {}
    without = summary[shares[0]] if len(shares) > 1 else {}
    ours, peer = with_faults.get(LIMBECK, {}), with_faults.get(OPENAI, {})
    cpu, peers = ours.get("cpu_ms_a_request"), peer.get("cpu_ms_a_request")
    return {
        "teacher_client_cpu_ms_a_request": cpu,
        "teacher_client_cpu_ms_a_request_without_faults": without.get(LIMBECK, {}).get("cpu_ms_a_request"),
        "teacher_client_cpu_over_openai": cpu / peers if cpu and peers else None,
        "teacher_resends_beyond_faults": ours.get("resends_beyond_faults"),
        "teacher_requests_unaccounted_for": ours.get("unaccounted_for"),
        "teacher_peak_memory_mib": ours.get("peak_memory_mib"),
    }


def _figures(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    outcomes, servers = [run["outcome"] for run in runs], [run["server"] for run in runs]
    cpu = [1000 * outcome["facts"]["cpu_seconds"] / outcome["rows"] for outcome in outcomes]
    return {
        "cpu_ms_a_request": median(cpu),
        "least_and_most": [min(cpu), max(cpu)],
        "seconds": median(outcome["seconds"] for outcome in outcomes),
        "peak_memory_mib": max(outcome["peak_memory_bytes"] for outcome in outcomes) / 2**20,
        "resends": max(server["resends"] for server in servers),
        "resends_beyond_faults": max(server["resends_beyond_faults"] for server in servers),
        "unaccounted_for": max(server["unaccounted_for"] for server in servers),
        "most_at_once": max(server["most_at_once"] for server in servers),
        "ended": outcomes[-1]["facts"]["ended"],
    }
