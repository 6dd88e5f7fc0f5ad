"""Alarms: figures beyond a threshold of the recipe, found in pairs, while training, or in what a model says now."""

from limbeck.records import Record


class Alarm(Record):
    """A figure beyond its threshold, in one sentence, and what to do about it, in another.

    `about`: what it was found in: a set of pairs, or a unit of the run (`dpo/ARM`, `evaluate/MODEL`). `field` names the
    threshold in the recipe. `step`: of training, where it was found there.
    """

    about: str
    field: str
    value: float
    threshold: float
    sentence: str
    advice: str
    step: int | None = None
