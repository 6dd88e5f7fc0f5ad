"""Handing the points of a growing metrics file to one tracker: what runs in the tracker's own process.

A point is handed over once, whatever happens: every one that was taken leaves a line beside the metrics, and a
resumed run, which makes points again that lie after its checkpoint, begins after the last of them.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from limbeck.records import Metric
from limbeck.store import RecordStream
from limbeck.tracking.protocol import Taken, TrackedRun, Tracker


class Attempt:
    """Something of a library's that may fail in any way: the failure becomes data, `error`.

    Not a list of errors to be caught, since each library raises its own, and its dependencies' too; what must not
    happen is that a curve's display ends what it displays.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error if isinstance(error, Exception) else None
        return self.error is not None

    @property
    def problem(self) -> str | None:
        """The kind of error. Not its words: they go into a file, and a library's may quote an address or a key."""
        return type(self.error).__name__ if self.error is not None else None


def follow(
    tracker: Tracker, run: TrackedRun, points: Iterable[Metric], taken: Path, tell: Callable[[Exception], None]
) -> None:
    """Hand `points` to the tracker as they come, but for those that it took before; write into `taken` what it took.

    `tell` is called with the first failure. Where the tracker cannot even start, nothing more is tried.
    """
    with RecordStream(taken, Taken) as lines:
        done: list[Taken] = [line for line in lines.done if line.what == "point" and line.problem is None]
        name = lines.done[0].run if lines.done else uuid.uuid4().hex[:8]
        last: dict[str, int] = {}
        for line in done:
            last[str(line.split)] = max(last.get(str(line.split), -1), line.step or 0)
        told = False

        def note(attempt: Attempt, line: Taken) -> None:
            nonlocal told
            lines.append(line.model_copy(update={"problem": attempt.problem}))
            if attempt.error is not None and not told:
                told = True
                tell(attempt.error)

        with Attempt() as attempt:
            tracker.start(run.model_copy(update={"id": name, "resumed": bool(done)}))
        note(attempt, Taken(run=name, what="start"))
        if attempt.error is not None:
            return
        for point in points:
            if point.step > last.get(point.split, -1):
                with Attempt() as attempt:
                    tracker.log(point.step, point.split, point.values)
                note(attempt, Taken(run=name, what="point", step=point.step, split=point.split))
        with Attempt() as attempt:
            tracker.finish()
        note(attempt, Taken(run=name, what="finish"))


def growing(file: BinaryIO, ended: Callable[[], bool]) -> Iterator[Metric]:
    """Yield the points of a metrics file as they are written, until one look after `ended` has said so.

    `ended` waits a little before it says no. A line that is not whole yet is left until it is.
    """
    torn = b""
    while True:
        last = ended()
        *whole, torn = (torn + file.read()).split(b"\n")
        for line in whole:
            yield Metric.model_validate_json(line)
        if last:
            return
