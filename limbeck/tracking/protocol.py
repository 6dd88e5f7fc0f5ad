"""What a live tracker is, what it is told, and what is remembered of that: the seam between limbeck and a library."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from limbeck.records import Record

Split = Literal["train", "validation"]


class TrackedRun(Record):
    """A training run as a tracker sees it.

    `name`: recipe and unit, `NAME/dpo/human`. `id`: the same as long as the unit is resumed, another when it is run
    anew. `resumed`: the tracker has points of this id already. `settings`: what was trained on what, for display.
    `folder`: where a tracker may put files, shared by all runs. `longest_end_seconds`: what it may take to hand over
    what is left when training has ended, in the background.
    """

    project: str
    name: str
    folder: Path
    settings: dict[str, Any]
    longest_end_seconds: float = 300.0
    id: str = ""
    resumed: bool = False


class Tracker(Protocol):
    """Where points of a training curve are shown. Lives in a process of its own and may raise whatever it likes."""

    def start(self, run: TrackedRun) -> None:
        """Begin the run, or go on in it where it is `resumed`."""

    def log(self, step: int, split: Split, values: Mapping[str, float]) -> None:
        """Take one point. Steps of a split only grow; `train` and `validation` may share a step."""

    def finish(self) -> None:
        """See that all points are where they belong."""


class Taken(Record):
    """One line of what a tracker took (`problem` None), or failed at. Without a step: its start or its finish."""

    run: str
    what: Literal["start", "point", "finish"]
    step: int | None = None
    split: Split | None = None
    problem: str | None = None
