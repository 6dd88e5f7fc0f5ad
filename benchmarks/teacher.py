"""Asking a teacher: limbeck's client and the `openai` package's in turn, against a server on this machine with faults.

The server runs in a process of its own; its tally is the ground truth: what was sent, how it was answered, and whether
anything was sent again without reason.
"""

import time
from pathlib import Path
from typing import Any

from benchmarks.compare import LIMBECK, Contender
from benchmarks.contract import Job, Load, Outcome
from benchmarks.options import Options
from benchmarks.processes import RunFailedError, run_worker
from benchmarks.results import Part
from benchmarks.teacher_summary import OPENAI, headlines, summarise
from limbeck.api.faults import Faults, Tally
from limbeck.api.faulty_server import running
from limbeck.console import say

SHARES = (0.05, 0.0)  # of requests that meet a fault
LATENCY_SECONDS = (0.01, 0.05)  # short, so that the client has to work as fast as it can
LONGEST_SECONDS = 600.0  # of one run
NO_OPENAI = "no interpreter that has it was named, with --openai-python or LIMBECK_OPENAI_PYTHON"


def measure(options: Options, scratch: Path) -> None:
    """All contenders in turn, with faults and without, a server and a process each."""
    settings = {
        "requests": options.requests,
        "in_flight": options.in_flight,
        "latency_seconds": LATENCY_SECONDS,
        "shares": SHARES,
        "repeats": options.repeats,
        "seed": options.seed,
    }
    part = Part(options.results, "teacher", settings)
    job = Job(task="teacher", model="faulty-1", scratch=scratch, seed=options.seed)
    contenders = [Contender(LIMBECK, "teacher_worker", job)]
    if options.openai_python is None:
        say(f"  teacher: openai left out: {NO_OPENAI}")
        part.note(left_out={OPENAI: NO_OPENAI})
    else:
        contenders.append(Contender(OPENAI, "teacher_openai_worker", job, str(options.openai_python)))
    for repetition in range(options.repeats):
        for share in SHARES:
            for contender in contenders:
                part.add(_run(options, contender, share, repetition, scratch))
    summary = summarise(part.runs)
    part.finish(summary, headlines(summary))


def _run(options: Options, contender: Contender, share: float, repetition: int, scratch: Path) -> dict[str, Any]:
    faults = Faults.spread(share, options.seed, latency_seconds=LATENCY_SECONDS)
    entry: dict[str, Any] = {"contender": contender.name, "share": share, "repetition": repetition}
    with running(faults) as server:
        load = Load(url=server.url, requests=options.requests, in_flight=options.in_flight)
        folder = scratch / f"{contender.module}-{share}-{repetition}"
        job = contender.job.model_copy(update={"load": load, "scratch": folder})
        started = time.monotonic()
        try:
            outcome = run_worker(contender.module, job, LONGEST_SECONDS, contender.python)
            entry |= {"outcome": outcome.model_dump(), "server": account(server.tally(), outcome, options.requests)}
        except RunFailedError as error:
            entry["failed"] = str(error)
        entry["wall_seconds"] = round(time.monotonic() - started, 1)
    told = entry.get("failed") or f"{1000 * outcome.facts['cpu_seconds'] / options.requests:.2f} ms of CPU a request"
    say(f"  teacher, {share:.0%} faults, repetition {repetition}, {contender.name}: {told}")
    return entry


def account(tally: Tally, outcome: Outcome, requests: int) -> dict[str, Any]:
    """The server's account of one run, and how many requests are missing in it or in the client's.

    A client that keeps a store (`states`) is asked what lies in there; another, how many of its calls came to an end.
    """
    states = outcome.facts.get("states")
    kept = states.get("done", 0) + states.get("failed", 0) if states is not None else outcome.rows
    return {
        "requests": tally.requests,
        "by_how": tally.by_how,
        "resends": tally.resends,
        "resends_beyond_faults": tally.resends_beyond_faults,
        "unaccounted_for": (requests - len(tally.arrivals)) + (requests - kept) + len(tally.waiting),
        "most_at_once": tally.most_at_once,
        "connections": tally.connections,
        "cpu_seconds": tally.cpu_seconds,
    }
