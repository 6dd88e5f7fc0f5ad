"""Contenders in turn: each run a fresh process, each result kept at once, each failure kept with its reason.

Also which settings of TRL are tried to find its best, and which are not, with the reason: read in the sources of 1.16.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.contract import Job, Outcome, TrlSettings
from benchmarks.processes import RunFailedError, run_worker
from benchmarks.results import Part
from limbeck.console import clock, say

# A setting that needs longer than this to try is no setting anybody would use on rows that few.
TRIAL_SECONDS = 900.0
COMPILE_SECONDS = 300.0

LIMBECK, AS_IT_COMES, BEST = "limbeck", "TRL, as it comes", "TRL, best settings found"
AS_IT_COMES_SETTINGS = TrlSettings()
NOT_TRIED = {
    "padding_free (DPO)": "DPOConfig takes it, warns that it is temporarily unavailable, and pads all the same",
    "padding_free (SFT, without packing)": "what packing switches on by itself; it is measured as packing",
    "precompute_ref_batch_size": "left as it comes, the training micro-batch, with which the trials vary it",
    "group_by_length": "no trial runs it: it sorts within blocks of a quarter of the rows or of 50 steps, whichever is "
    "less, so that few rows are hardly grouped; switched on where it lowers the padded tokens of all rows",
    "use_liger_kernel": "Liger's kernels are Triton's, which has no CPU backend here; TRL takes only its layer kernels "
    "and computes the head itself",
    "attn_implementation flash_attention_2": "needs CUDA",
    "gradient checkpointing": "on by default; switched off for every contender, since it recomputes to save memory",
    "PEFT adapters": "train other weights: no comparison",
}


class Contender(NamedTuple):
    """Who runs what: the worker's module, its job, which for TRL holds its settings, and under which interpreter."""

    name: str
    module: str
    job: Job
    python: str = sys.executable


class Bench:
    """Runs workers for one part and keeps what they say. `kind`: of the runs that count, whose targets are checked."""

    def __init__(
        self, part: Part, scratch: Path, expected_targets: int | None = None, kind: str = "repetition"
    ) -> None:
        self.part, self.scratch, self.expected_targets, self.kind = part, scratch, expected_targets, kind
        self._number = 0

    def run(self, contender: Contender, kind: str, number: int, timeout_seconds: float | None = None) -> Outcome | None:
        """Run once; None where it failed. `kind` says what `number` counts: trials, repetitions, ..."""
        self._number += 1
        job = contender.job.model_copy(update={"scratch": self.scratch / str(self._number)})
        started = time.monotonic()
        entry: dict[str, Any] = {"contender": contender.name, kind: number, "settings": _settings(contender)}
        outcome: Outcome | None = None
        try:
            outcome = self._checked(run_worker(contender.module, job, timeout_seconds, contender.python), kind)
            entry["outcome"] = outcome.model_dump()
        except RunFailedError as error:
            entry["failed"] = str(error)
        entry["wall_seconds"] = round(time.monotonic() - started, 1)
        self.part.add(entry)
        say(f"  {self.part.name}, {kind} {number}, {contender.name}: {_told(entry, outcome)}")
        return outcome

    def _checked(self, outcome: Outcome, kind: str) -> Outcome:
        if kind == self.kind and self.expected_targets not in (None, outcome.target_tokens):
            did, on = ("wrote", "") if self.part.name.startswith("sampling") else ("trained on", "on ")
            raise RunFailedError(
                f"{did} {outcome.target_tokens} target tokens, and not {on}the {self.expected_targets} of the rows"
            )
        return outcome


def _settings(contender: Contender) -> dict[str, Any]:
    if contender.job.task == "sampling":
        changed = contender.job.sampler.model_dump(exclude_defaults=True)
        return {"dtype": contender.job.dtype, "rows_at_once": contender.job.batch} | changed
    if contender.module != "trl_worker":
        return {"dtype": contender.job.dtype, "batch": contender.job.batch}
    return contender.job.trl.model_dump() | {"batch": contender.job.batch}


def _told(entry: dict[str, Any], outcome: Outcome | None) -> str:
    if outcome is None:
        return f"failed: {entry['failed']}"
    if not outcome.seconds:
        return f"done in {entry['wall_seconds']:.0f} s"
    speed = f"{outcome.rows} rows in {outcome.seconds:.1f} s, {outcome.target_tokens / outcome.seconds:.0f} targets/s"
    return f"{speed}, peak memory {outcome.peak_memory_bytes / 2**30:.2f} GiB"


Outcomes = dict[str, dict[int, Outcome]]


def alternate(bench: Bench, contenders: Sequence[Contender], repeats: int) -> Outcomes:
    """A B C A B C ...: outcomes by contender and repetition. Who fails once is not tried again."""
    outcomes: Outcomes = {contender.name: {} for contender in contenders}
    out: set[str] = set()
    started = time.monotonic()
    for repetition in range(repeats):
        for contender in contenders:
            if contender.name in out:
                continue
            outcome = bench.run(contender, bench.kind, repetition)
            if outcome is None:
                out.add(contender.name)
            else:
                outcomes[contender.name][repetition] = outcome
        done = repetition + 1
        left = (time.monotonic() - started) / done * (repeats - done)
        if left:
            say(f"  {bench.part.name}: {clock(left)} left for {repeats - done} of {repeats} repetitions")
    return outcomes


class Change(NamedTuple):
    """A change of settings worth trying, and how long a trial may take."""

    update: dict[str, Any]
    timeout_seconds: float = TRIAL_SECONDS


KEEP_FREED_MEMORY = Change({"keep_freed_memory": True})


def starts(precompute_reference: bool, packed_to: int | None = None) -> list[TrlSettings]:
    """The three precisions that a CPU can train in."""
    common = {"precompute_reference": precompute_reference, "packed_to": packed_to}
    settings: list[dict[str, object]] = [
        {"weights": "fp32", "autocast_bf16": True},
        {"weights": "fp32", "autocast_bf16": False},
        {"weights": "bf16", "autocast_bf16": False},
    ]
    return [TrlSettings.model_validate(common | chosen) for chosen in settings]


def changes(batch: int) -> list[Change]:
    """What is tried on top of the fastest precision. `batch`: rows a step.

    Smaller micro-batches come late, so that the fastest trial at the whole batch has had all else but compilation.
    """
    halves = [batch // 2**k for k in range(1, batch.bit_length())]
    return [
        Change({"attention": "eager"}),
        KEEP_FREED_MEMORY,
        *(Change({"micro_batch": half}) for half in halves),
        Change({"compile": True}, COMPILE_SECONDS),
    ]


def best_settings(bench: Bench, base: Job, first: Iterable[TrlSettings], then: Iterable[Change]) -> TrlSettings | None:
    """The fastest of several settings, then each change in turn where it makes that faster. None where all fail."""
    number = 0
    found: tuple[float, TrlSettings] | None = None

    def try_(settings: TrlSettings, timeout_seconds: float) -> None:
        nonlocal number, found
        number += 1
        contender = Contender("TRL", "trl_worker", base.model_copy(update={"trl": settings}))
        outcome = bench.run(contender, "trial", number, timeout_seconds)
        if outcome is not None and (found is None or outcome.seconds < found[0]):
            found = (outcome.seconds, settings)

    for settings in first:
        try_(settings, TRIAL_SECONDS)
    for change in then:
        if found is not None:
            try_(found[1].model_copy(update=change.update), change.timeout_seconds)
    return found[1] if found else None
