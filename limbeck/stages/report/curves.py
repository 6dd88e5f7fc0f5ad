"""Training curves: metric records as small panels, one a quantity, all arms on the same axes.

Long training curves are averaged in bins before they are drawn; the caption says so. Refuses to know how training
works, or to smooth validation.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from limbeck.records import Metric
from limbeck.stages.report.figures import Curve, Mark, legend_entry, panel
from limbeck.stages.report.results import Figure
from limbeck.stages.report.trust import NumberedAlarm

MOST_POINTS = 150  # of a drawn curve: about two pixels a point in a panel
SPLITS = ("train", "validation")


class Quantity(NamedTuple):
    """A value of `Metric.values`: its name there, its title and unit here, and a value its axis must show."""

    name: str
    title: str
    unit: str
    include: tuple[float, ...] = ()
    asked_for: bool = False  # drawn where a recipe asked for it, and not missed elsewhere


_SOLVED = Quantity("solved", "Problems solved", "share of those asked", asked_for=True)
SFT_QUANTITIES = (
    Quantity("loss", "Loss", "nats per target token"),
    Quantity("grad_norm", "Gradient norm", "before clipping", (0,)),
    Quantity("learning_rate", "Learning rate", "per step", (0,)),
    _SOLVED,
)
DPO_QUANTITIES = (
    Quantity("loss", "Loss, total", "preference and NLL"),
    Quantity("margin", "Margin, chosen over rejected", "", (0,)),
    Quantity("accuracy", "Accuracy", "share of pairs, margin > 0"),
    Quantity("chosen_logps_change", "Chosen logps", "change, nats per sequence", (0,)),
    Quantity("rejected_logps_change", "Rejected logps", "change, nats per sequence", (0,)),
    Quantity("nll", "Chosen NLL", "nats per token"),
    _SOLVED,
)


REWARD_QUANTITIES = (
    Quantity("loss", "Loss", "nats per pair"),
    Quantity("accuracy", "Accuracy", "share of pairs, margin > 0"),
    Quantity("margin", "Margin, chosen over rejected", "", (0,)),
)


# Where policy and reference are the same model, which is most often so.
START_OF_ACCURACY = (
    "Chance is an accuracy of one half; it starts at 0 where policy and reference are the same model, since no margin "
    "is above 0 then."
)


class Curves(NamedTuple):
    """A figure where anything could be drawn, and sentences on what could not."""

    figure: Figure | None
    notes: tuple[str, ...]


class _Runs(NamedTuple):
    """Metrics by name (see `run_name`), the number of each name's series, and the alarms at their steps."""

    metrics: dict[str, tuple[Metric, ...]]
    series: Mapping[str, int]
    marks: tuple[Mark, ...] = ()


Alarms = Sequence[NumberedAlarm]


def sft_curves(metrics: Mapping[str, tuple[Metric, ...]], series: Mapping[str, int], alarms: Alarms = ()) -> Curves:
    """The curves of supervised fine-tuning: the plain one, and those of arms that train by it."""
    what = "Supervised fine-tuning."
    units = [unit for unit in metrics if unit.partition("/")[0] in ("sft", "sft_first", "sft_arms")]
    if units != ["sft"]:
        what = "Supervised fine-tuning, the plain one and that of arms with demonstrations of their own."
    return _curves(_runs({unit: metrics[unit] for unit in units}, series, alarms), SFT_QUANTITIES, what)


def dpo_curves(metrics: Mapping[str, tuple[Metric, ...]], series: Mapping[str, int], alarms: Alarms = ()) -> Curves:
    """The curves of preference training, every arm in every panel."""
    arms = {unit: points for unit, points in metrics.items() if unit.partition("/")[0] in ("dpo", "dpo_first")}
    what = (
        "Preference training (DPO) of every arm, each on its own held-out pairs; a change of logps is policy minus "
        f"reference. {START_OF_ACCURACY}"
    )
    return _curves(_runs(arms, series, alarms), DPO_QUANTITIES, what)


def overlaid_curves(unit: str, runs: Mapping[str, tuple[Metric, ...]], series: Mapping[str, int]) -> Curves:
    """The curves of one unit of training in several runs, by the runs' names."""
    step = unit.partition("/")[0]
    quantities = {"reward": REWARD_QUANTITIES, "dpo": DPO_QUANTITIES, "dpo_first": DPO_QUANTITIES}
    return _curves(_Runs(dict(runs), series), quantities.get(step, SFT_QUANTITIES), f"{run_name(unit)}, run by run.")


def reward_curves(metrics: Mapping[str, tuple[Metric, ...]], alarms: Alarms = ()) -> Curves:
    """The curves of the reward model that this run trained, if it trained one."""
    trained = {unit: points for unit, points in metrics.items() if unit == "reward"}
    curves = _curves(_runs(trained, {"reward": 2}, alarms), REWARD_QUANTITIES, "The reward model trained in this run.")
    return Curves(curves.figure, ())  # which of the quantities it logs is its own matter


def run_name(unit: str) -> str:
    """What a reader calls a training run: `sft`, an arm, or the first run of an arm."""
    step, _, arm = unit.partition("/")
    return f"{arm}, first run" if step.endswith("_first") else arm or step


def _runs(metrics: Mapping[str, tuple[Metric, ...]], series: Mapping[str, int], alarms: Alarms) -> _Runs:
    """An arm has its number in all figures; what no other figure shows, one beyond them."""
    known = {"sft": 1} | dict(series)
    named = {run_name(unit): points for unit, points in metrics.items()}
    fresh = count(max(known.values()) + 1)
    numbers = {name: known[name] if name in known else next(fresh) for name in named}
    return _Runs(named, numbers, marks_of(metrics, alarms))


def marks_of(units: Iterable[str], alarms: Alarms) -> tuple[Mark, ...]:
    """The alarms of these units that a step of training raised."""
    names = set(units)
    return tuple(
        Mark(alarm.step, number, f"{run_name(alarm.about)}: {alarm.sentence}")
        for number, alarm in alarms
        if alarm.step is not None and alarm.about in names
    )


def _curves(runs: _Runs, quantities: Sequence[Quantity], what: str) -> Curves:
    known = {name: metrics for name, metrics in runs.metrics.items() if metrics}
    drawings, notes = [], []
    for quantity in quantities:
        curves = _curves_of(quantity, _Runs(known, runs.series))
        if curves:
            drawings.append(panel(quantity.title, quantity.unit, curves, quantity.include, runs.marks))
        elif known and not quantity.asked_for:
            notes.append(f"The metrics hold no {quantity.name}.")
    for name, metrics in known.items():
        if left_out := count_unfinite(metrics):
            notes.append(f"{name}: {left_out} values are not finite and are not drawn.")
    if not drawings:
        return Curves(None, tuple(notes))
    legend = tuple(legend_entry(runs.series[name], name) for name in known)
    marked = " ⚠ marks the step of an alarm, by its number in the list above." if runs.marks else ""
    return Curves(Figure(tuple(drawings), legend, f"{what} {kinds_of_line(known)}{marked}"), tuple(notes))


def _curves_of(quantity: Quantity, runs: _Runs) -> list[Curve]:
    curves = []
    for name, metrics in runs.metrics.items():
        for split in SPLITS:
            points = points_of(metrics, quantity.name, split)
            if points:
                size = bin_size(len(points)) if split == "train" else 1
                curves.append(Curve(runs.series[name], name, split, binned(points, size)))
    return curves


def kinds_of_line(known: Mapping[str, Sequence[Metric]]) -> str:
    """What thin and strong lines are, and over how many steps training values are averaged."""
    text = "Thin lines are training batches, strong lines with marks are validation."
    largest = max(bin_size(sum(metric.split == "train" for metric in metrics)) for metrics in known.values())
    return text if largest == 1 else f"{text} Training values are means over up to {largest} logged steps."


def bin_size(num_points: int) -> int:
    """How many successive training points one drawn point stands for."""
    return max(1, math.ceil(num_points / MOST_POINTS))


def points_of(metrics: Sequence[Metric], name: str, split: str) -> tuple[tuple[float, float], ...]:
    """The finite values of one quantity on one split, as (step, value)."""
    return tuple(
        (float(metric.step), metric.values[name])
        for metric in metrics
        if metric.split == split and math.isfinite(metric.values.get(name, math.nan))
    )


def count_unfinite(metrics: Sequence[Metric]) -> int:
    """How many values are infinite or not a number."""
    return sum(not math.isfinite(value) for metric in metrics for value in metric.values.values())


def binned(points: Sequence[tuple[float, float]], size: int) -> tuple[tuple[float, float], ...]:
    """Means of `size` successive points each (the last bin may hold fewer)."""
    bins = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple((sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in bins)
