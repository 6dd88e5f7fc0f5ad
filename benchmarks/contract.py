"""What passes between the parent and its workers: a job in (JSON), an outcome out (one JSON line).

Imports no contender and no torch, so that a worker's memory is its contender's.
"""

import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from benchmarks.workload import Row


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrlSettings(_Frozen):
    """How TRL is set where that is not its default. The defaults here are TRL's own ("as it comes")."""

    weights: Literal["fp32", "bf16"] = "fp32"  # what TRL loads when it is given a path and no dtype
    autocast_bf16: bool = True  # _BaseConfig sets bf16 where fp16 is not asked for
    precompute_reference: bool = False
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = None  # None: transformers chooses (sdpa)
    micro_batch: int | None = None  # rows a forward pass; the rest by gradient accumulation. None: the whole batch
    group_by_length: bool = False
    compile: bool = False
    packed_to: int | None = None  # SFT: packing (best fit decreasing) into rows of this many tokens
    gradient_checkpointing: bool = False  # TRL's own default is True; off unless a part says otherwise
    liger: bool = False
    unsloth: bool = False
    keep_freed_memory: bool = False  # glibc keeps what is freed, as limbeck's stages have it (lm/machine)


class SamplerSettings(_Frozen):
    """How a contender samples, each reading what concerns it. How many rows it writes at once is its job's `batch`."""

    weights: Literal["int8"] | None = None  # limbeck: weights and activations of 8 bits
    continuous: bool = False  # transformers: `generate_batch`, and not `generate`
    keep_freed_memory: bool = False  # transformers: glibc keeps what is freed, as limbeck has it (lm/machine)
    compile: bool = False  # vLLM: with torch.compile
    all_cores: bool = True  # vLLM: leave no core to its scheduler alone, which is what it does by itself
    own_process: bool = False  # vLLM: its engine in a child process, which is what it does by itself


class Load(_Frozen):
    """Requests to a teacher's server: its address, how many, how many at once, and how long one may take."""

    url: str = ""
    requests: int = 0
    in_flight: int = 1
    timeout_seconds: float = 10.0
    max_retries: int = 8
    max_tokens: int = 512


class Job(_Frozen):
    """One measured run. `rows`: a file of `write_rows`; `scratch`: a folder of its own; `batch`: rows a step.

    Where the task is sampling, `rows` is a file of `write_work`, and `replies` where token ids go.
    """

    task: Literal["dpo", "sft", "logps", "padding", "sweep", "sampling", "teacher"]
    model: str
    scratch: Path
    rows: Path = Path()
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["auto", "bf16", "fp32"] = "auto"  # limbeck's and transformers'
    batch: int = 4
    epochs: int = 1
    seed: int = 1
    trl: TrlSettings = TrlSettings()
    sampler: SamplerSettings = SamplerSettings()
    replies: Path = Path()
    load: Load = Load()
    axis: Literal["pairs", "prompt", "vocabulary"] = "pairs"
    points: tuple[int, ...] = ()
    steps: int = 5  # timed at one point of the sweep, after one that warms up

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the worker is started with: what mallopt would set, read by glibc before any code runs."""
        if not (self.trl.keep_freed_memory or self.sampler.keep_freed_memory):
            return {}
        return {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


class Outcome(_Frozen):
    """What a worker measured. `seconds` is all of it, `reference_seconds` the part before training."""

    seconds: float = 0.0
    reference_seconds: float = 0.0
    rows: int = 0
    steps: int = 0
    target_tokens: int = 0
    peak_memory_bytes: int = 0
    peak_device_memory_bytes: int = 0
    loaded_memory_bytes: int = 0
    facts: dict[str, Any] = {}


class Rows(NamedTuple):
    """Rows of the warm-up step, which is not timed, and the rows that are."""

    warm_up: list[Row]
    timed: list[Row]


def write_rows(path: Path, rows: Rows) -> None:
    """Write rows for workers to read."""
    path.write_text(json.dumps({"warm_up": rows.warm_up, "timed": rows.timed}), encoding="utf-8")


def read_rows(path: Path) -> Rows:
    """Read what `write_rows` wrote."""
    value = json.loads(path.read_text(encoding="utf-8"))
    return Rows([Row(*row) for row in value["warm_up"]], [Row(*row) for row in value["timed"]])


def read_job(arguments: Sequence[str]) -> Job:
    """The job on a worker's command line."""
    return Job.model_validate_json(arguments[0])


def report(outcome: Outcome) -> None:
    """Print the one line that the parent reads; it must be the last."""
    sys.stdout.write("\n" + outcome.model_dump_json() + "\n")
    sys.stdout.flush()


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far.

    Linux counts what getrusage says from before this program was started in its process, too, so its own file is asked.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


class StepClock:
    """When steps began. Timing starts with the second one: the first warms up."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def mark(self) -> None:
        """A step begins now, or the last one has ended."""
        self.marks.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """From the second mark to the last."""
        return self.marks[-1] - self.marks[1]
