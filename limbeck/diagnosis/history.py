"""What rules look at: the points of a training run so far, and what is known of the run beforehand.

Start reading at: `History`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from limbeck.recipe.alarms import Alarms
from limbeck.records import Metric
from limbeck.statistics import Interval, proportion

LEAST_WINDOW = 10  # fewer points say little of a spread


@dataclass(frozen=True)
class Training:
    """A run as it is planned: `steps` and `warmup_steps` of the optimizer, `batch_size` rows each out of `num_rows`.

    `trained` and `heldout`: how many rows of each source there are to train on, and held out. The latter are looked at
    every `validate_every_steps`, and at the end.
    """

    steps: int
    warmup_steps: int
    batch_size: int
    num_rows: int
    trained: Mapping[str, int]
    heldout: Mapping[str, int]
    validate_every_steps: int = 1


class Finding(NamedTuple):
    """A figure beyond its threshold. `key`: what it is of, so that it is said once; `field` as in `[alarms]`."""

    key: str
    field: str
    value: float
    threshold: float
    sentence: str
    advice: str


@dataclass
class History:
    """The points so far. Values of a metric that has none of that name are left out."""

    training: Training
    rules: Alarms
    train: list[Metric] = field(default_factory=list)
    validation: list[Metric] = field(default_factory=list)

    def add(self, metric: Metric) -> None:
        (self.train if metric.split == "train" else self.validation).append(metric)

    @property
    def window(self) -> int:
        """How many training steps are looked at together."""
        return min(self.rules.window_steps, max(self.training.steps // 4, LEAST_WINDOW))

    @property
    def settled_after(self) -> int:
        """The step from which what is held out is judged."""
        return max(math.ceil(self.rules.settle_share * self.training.steps), self.training.warmup_steps, 1)

    @property
    def silence(self) -> str | None:
        """Why alarms that want several validations in a row cannot be raised, where there are too few; else None."""
        training, first, wanted = self.training, self.settled_after, self.rules.validations
        every, room = training.validate_every_steps, training.steps - first
        at_the_end = 1 if training.steps % every else 0
        looks = training.steps // every - (first - 1) // every + at_the_end
        if not sum(training.heldout.values()) or looks >= wanted or room < wanted:
            return None
        return (
            f"most alarms of what is held out want {wanted} validations in a row from step {first} of {training.steps} "
            f"on, and validate_every_steps = {every} makes {looks}: they stay silent; {room // wanted} would do"
        )

    @property
    def of_pairs(self) -> bool:
        """Whether pairs are trained on, by DPO or a reward model, whose loss is no number of nats a token."""
        return bool(self.validated("accuracy"))

    def recent(self, name: str) -> list[float]:
        """The last window of a training value."""
        return [point.values[name] for point in self.train[-self.window :] if name in point.values]

    def mean_recent(self, name: str) -> float | None:
        """Its mean, over at least half a window."""
        values = self.recent(name)
        return sum(values) / len(values) if 2 * len(values) >= self.window else None

    def validated(self, name: str) -> list[float]:
        """Every validation of a value, the one before the first step included."""
        return [point.values[name] for point in self.validation if name in point.values]

    def settled(self, name: str) -> list[float]:
        """The last `validations` of a value where all are of settled steps; else empty."""
        points = self.validation[-self.rules.validations :]
        if len(points) < self.rules.validations or points[0].step < self.settled_after:
            return []
        return [point.values[name] for point in points if name in point.values]

    def sources(self, name: str) -> list[str]:
        """Sources that the last validation splits a value by."""
        last = self.validation[-1].values if self.validation else {}
        return [key.partition("/")[2] for key in last if key.startswith(f"{name}/")]

    def num_heldout(self, source: str | None) -> int:
        """Held-out rows of a source, or of all."""
        return sum(self.training.heldout.values()) if source is None else self.training.heldout.get(source, 0)


def of(name: str, source: str | None) -> str:
    """A value's name, of one source or of all."""
    return name if source is None else f"{name}/{source}"


def interval(share: float, n: int) -> Interval:
    """Wilson's 95 % interval of a share of `n`."""
    return proportion(round(share * n), n)


def said(found: Interval) -> str:
    """An accuracy with its interval and number, as it stands in sentences."""
    return f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}] of {found.n:,}"
