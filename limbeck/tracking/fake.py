"""A tracker for tests: writes what it is told into a file, and fails where it is asked to."""

import os
import time
from collections.abc import Mapping

from limbeck.records import Metric
from limbeck.store import RecordStream
from limbeck.tracking.protocol import Split, TrackedRun

FILE = "fake.jsonl"


class FakeTracker:
    """Points in FOLDER/RUN/ID/fake.jsonl.

    `fault`: `start`, `finish`: that call fails. `log`: points of odd steps fail. `die`: the process ends at step 2.
    `hang`: the first point is never done with.
    """

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self._lines: RecordStream | None = None

    def start(self, run: TrackedRun) -> None:
        """Open the file; a resumed run goes on in it."""
        self._fail("start")
        self._lines = RecordStream(run.folder / run.name / run.id / FILE, Metric)

    def log(self, step: int, split: Split, values: Mapping[str, float]) -> None:
        """Write a line."""
        if step % 2:
            self._fail("log")
        if self.fault == "hang":
            time.sleep(3600)
        if self.fault == "die" and step == 2:
            os._exit(3)
        if self._lines is not None:
            self._lines.append(Metric(step=step, split=split, values=dict(values)))

    def finish(self) -> None:
        """Close the file."""
        if self._lines is not None:
            self._lines.__exit__(None, None, None)
        self._fail("finish")

    def _fail(self, when: str) -> None:
        if self.fault == when:
            raise ConnectionError(f"no way to {when}")
