"""A measured run is a fresh process: its peak memory is its own, and one that dies takes nothing with it."""

import os
import signal
import subprocess
import sys

from pydantic import ValidationError

from benchmarks.contract import Job, Outcome
from benchmarks.results import ROOT

# No progress bars in the log, and no look at the network: everything is on disk by then.
_ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    "TQDM_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class RunFailedError(Exception):
    """A worker did not come to its end; the message says why."""


def run_worker(module: str, job: Job, timeout_seconds: float | None = None, python: str = sys.executable) -> Outcome:
    """Run `python -m benchmarks.MODULE` on a job, under this interpreter or another.

    Raises:
        RunFailedError: where it fails, is killed, takes too long, or prints no outcome.
    """
    job.scratch.mkdir(parents=True, exist_ok=True)
    log = job.scratch / "log.txt"
    environment = os.environ | _ENVIRONMENT | job.environment | {"HF_DATASETS_CACHE": str(job.scratch / "datasets")}
    command = [python, "-m", f"benchmarks.{module}", job.model_dump_json()]
    with log.open("w", encoding="utf-8") as errors:
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT, env=environment,
                timeout=timeout_seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise RunFailedError(f"no result within {timeout_seconds:.0f} s") from error
    if done.returncode:
        raise RunFailedError(_why(done.returncode, log.read_text(encoding="utf-8", errors="replace")))
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    try:
        return Outcome.model_validate_json(lines[-1] if lines else "")
    except ValidationError as error:
        raise RunFailedError(f"printed no outcome, but: {lines[-1] if lines else 'nothing'}") from error


def _why(code: int, log: str) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        likely = ", most likely by the system, for memory" if name == "SIGKILL" else ""
        return f"killed by {name}{likely}"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {code}"
