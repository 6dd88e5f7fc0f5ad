"""Alarms of a training run as they are raised: said at once, and kept in `alarms.jsonl` beside the metrics.

A resumed run shows its watch the points that were kept, so that it knows what an uninterrupted one would; the file is
then what those points give, neither more nor less. Start reading at: `AlarmFile`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from limbeck.console import say
from limbeck.diagnosis import Training, Watch
from limbeck.lm.packing import Item
from limbeck.recipe.alarms import Alarms
from limbeck.recipe.training import Optimisation
from limbeck.records import Metric
from limbeck.records.alarms import Alarm
from limbeck.store import RecordStream, write_records

ALARMS = "alarms.jsonl"


class AlarmFile:
    """The watch over a run, and the file of what it found. Nothing is watched where there are no `rules`."""

    def __init__(self, folder: Path, rules: Alarms | None, training: Training, about: str) -> None:
        self.alarms: list[Alarm] = []
        self._watch = Watch(about, rules, training) if rules is not None else None
        self._path = folder / ALARMS
        self._stream: RecordStream | None = None

    @property
    def stops(self) -> bool:
        """Whether training is to end, for there is an alarm and the recipe says so."""
        return bool(self.alarms) and self._watch is not None and self._watch.rules.on_alarm == "stop"

    @contextmanager
    def opened(self, kept: Sequence[Metric]) -> Iterator["AlarmFile"]:
        """Go on after the points of an interrupted run; its alarms were said then and are not said again."""
        if self._watch is None:
            yield self
            return
        if not kept and self._watch.silence:
            say(f"  {self._watch.about}: {self._watch.silence}")
        self.alarms = [alarm for metric in kept for alarm in self._watch.see(metric)]
        write_records(self._path, self.alarms)
        with RecordStream(self._path, Alarm) as self._stream:
            yield self

    def see(self, metric: Metric) -> None:
        """Take in a new point; say and keep what it raises."""
        if self._watch is None or self._stream is None:
            return
        for alarm in self._watch.see(metric):
            self._stream.append(alarm)
            self.alarms.append(alarm)
            say(f"ALARM {alarm.sentence} {alarm.advice}", style="yellow")


def planned(settings: Optimisation, steps: int, train: Sequence[Item], heldout: Sequence[Item]) -> Training:
    """What is known of a run before its first step. Warm-up takes at most half of the steps."""
    return Training(
        steps=steps,
        warmup_steps=min(settings.warmup_steps, steps // 2),
        batch_size=settings.batch_size,
        num_rows=len(train),
        trained=Counter(item.source for item in train),
        heldout=Counter(item.source for item in heldout),
        validate_every_steps=settings.validate_every_steps,
    )
