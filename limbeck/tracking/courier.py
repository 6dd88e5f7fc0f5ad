"""The trainer's side of live trackers: start a process for each, let it go at the end, count what arrived."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from limbeck.console import say
from limbeck.recipe import Recipe
from limbeck.records import Metric
from limbeck.store import read_records
from limbeck.tracking.protocol import Taken, TrackedRun

WAIT_SECONDS = 15.0  # for what is left when training has ended; a tracker that needs longer goes on by itself


class Courier:
    """One tracker's process. It reads the metrics file by itself, and ends soon after its standard input does."""

    def __init__(self, tracker: str, run: TrackedRun, metrics: Path) -> None:
        self.tracker, self.label, self.metrics = tracker, run.name.partition("/")[2], metrics
        self.taken = metrics.with_name(f".tracked_{tracker.partition(':')[0]}.jsonl")
        self.code: int | None = None
        # -P: a folder `wandb` or a file `trackio.py` where the user stands is not the library.
        command = [sys.executable, "-P", "-m", "limbeck.tracking", tracker, str(metrics), str(self.taken)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0, start_new_session=True
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._to_process(run.model_dump_json().encode() + b"\n")

    def leave(self) -> None:
        """Say that no point will follow, and do not wait."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def wait(self, seconds: float) -> None:
        """Give the process this long to end; one that needs longer is left to itself."""
        self._listener.join(seconds)
        if self._listener.is_alive():
            say(f"  {self.label}: {self.tracker} has not taken everything yet; the run goes on without waiting")

    def facts(self) -> dict[str, Any]:
        """Points that were handed over without complaint, and those that were not; and this attempt's last problem.

        A library that loses what it has taken shows as a problem only.
        """
        made = {(point.step, point.split) for point in read_records(self.metrics, Metric)}
        lines = _whole_lines(self.taken)
        arrived = {(line.step, line.split) for line in lines if line.what == "point" and line.problem is None}
        since = max((number for number, line in enumerate(lines) if line.what == "start"), default=0)
        problems = [line.problem for line in lines[since:] if line.problem is not None]
        if self.code:
            problems.append(f"its process ended with {self.code}")
        elif self.code is None:
            problems.append("it had not ended")
        missed = len(made - arrived)
        return {"handed_over": len(made) - missed, "missed": missed, "problem": problems[-1] if problems else None}

    def _to_process(self, line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended already; the listener says so
            if self._process.stdin is not None:
                self._process.stdin.write(line)

    def _listen(self) -> None:
        if self._process.stdout is None:
            return
        with self._process.stdout as said:
            for line in said:
                say(f"  {self.label}: {line.decode(errors='replace').rstrip()}")
        self.code = self._process.wait()
        if self.code:
            say(f"  {self.label}: {_complaint(self.tracker, f'its process ended with {self.code}')}")


@dataclass
class Tracking:
    """What follows one training run: trackers by name, and what they are told of it."""

    trackers: Sequence[str]
    run: TrackedRun
    wait_seconds: float = WAIT_SECONDS
    _couriers: list[Courier] = field(default_factory=list)
    _unstarted: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe, out: Path, unit: str, settings: Mapping[str, Any]) -> Self:
        """The trackers of a recipe, for the unit (`dpo/human`) whose folder is `out`, trained with these settings."""
        root = out.resolve().parents[unit.count("/")]
        folder = Path(recipe.track.folder).expanduser().resolve() if recipe.track.folder else root / "track"
        told = {"student": recipe.model.student, "seed": recipe.seed, **settings}
        run = TrackedRun(project=recipe.track.project, name=f"{recipe.name}/{unit}", folder=folder, settings=told)
        return cls(recipe.track.to, run)

    @contextmanager
    def following(self, metrics: Path) -> Iterator[None]:
        """Have `metrics`, which is there already, followed until the end of the block.

        At its end there is a wait for what is left, `wait_seconds` at most; after an error in it, none.
        """
        for tracker in self.trackers:
            try:
                self._couriers.append(Courier(tracker, self.run, metrics))
            except OSError as error:  # no process, no pipe: the machine is at its limits
                self._unstarted[tracker] = type(error).__name__
                say(f"  {self.run.name.partition('/')[2]}: {_complaint(tracker, str(error))}")
        try:
            yield
        finally:
            for courier in self._couriers:
                courier.leave()
        for courier in self._couriers:
            courier.wait(self.wait_seconds)

    def facts(self) -> dict[str, Any]:
        """What each tracker took and missed, by name."""
        unstarted = {name: {"handed_over": 0, "missed": None, "problem": why} for name, why in self._unstarted.items()}
        return {courier.tracker: courier.facts() for courier in self._couriers} | unstarted


def _complaint(tracker: str, why: str) -> str:
    return f"{tracker} fails ({why}); training goes on, and the manifest counts what it misses"


def _whole_lines(path: Path) -> list[Taken]:
    """What the process has written by now; the line that it may be writing is left out."""
    content = path.read_bytes() if path.is_file() else b""
    return [Taken.model_validate_json(line) for line in content.split(b"\n")[:-1]]
