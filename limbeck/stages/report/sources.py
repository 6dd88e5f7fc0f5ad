"""Source by source: what training did to human and to synthetic rows, each by itself, as curves and one table.

A single curve hides a mixture whose human half is learnt while its synthetic half is not. Refuses to know how training
works: a metric called `NAME/SOURCE` is a value of that source.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from limbeck.records import Metric
from limbeck.stages.report import wording
from limbeck.stages.report.curves import SPLITS, bin_size, binned, marks_of, points_of, run_name
from limbeck.stages.report.figures import Curve, legend_entry, panel
from limbeck.stages.report.results import Figure
from limbeck.stages.report.tables import EMPTY, Cell, Column, Table
from limbeck.stages.report.trust import NumberedAlarm

LAST_STEPS = 20  # of training that are averaged
_QUANTITIES = ("accuracy", "margin", "loss")
_PANELS: dict[str, tuple[str, tuple[float, ...]]] = {
    "accuracy": ("share of pairs", ()),
    "margin": ("chosen over rejected", (0,)),
    "loss": ("nats", ()),
}
_KINDS_OF_LINE = "thin lines are training batches that hold the source, strong lines with marks are validation."


def source_table(metrics: Mapping[str, tuple[Metric, ...]], kept_steps: Mapping[str, int]) -> Table | None:
    """A row a run and source; None where no run's rows had several sources. `kept_steps`: by run."""
    rows = tuple(
        (
            Cell(run_name(unit)),
            Cell(source),
            *(_cell(points, name, source, kept_steps.get(unit)) for name in _QUANTITIES),
        )
        for unit, points in metrics.items()
        for source in sources_of(points)
    )
    columns = (Column("Run", "head"), Column("Source", "text"), Column("Accuracy"), Column("Margin"), Column("Loss"))
    return Table(columns, rows) if rows else None


def sources_of(metrics: Sequence[Metric]) -> list[str]:
    """The sources that a run's metrics are split by, in alphabetical order; a source's own name may hold a slash."""
    names = {name for metric in metrics for name in metric.values}
    return sorted({name.partition("/")[2] for name in names if "/" in name})


def source_figures(
    metrics: Mapping[str, tuple[Metric, ...]], alarms: Sequence[NumberedAlarm] = ()
) -> tuple[Figure, ...]:
    """For every run whose rows had several sources: how each source was learnt; a source keeps its mark throughout."""
    everywhere = list(dict.fromkeys(source for points in metrics.values() for source in sources_of(points)))
    figures = []
    for unit, points in metrics.items():
        number = {source: 2 + everywhere.index(source) for source in sources_of(points)}
        drawings = [
            panel(f"{run_name(unit)}: {name}", unit_name, curves, include, marks_of((unit,), alarms))
            for name, (unit_name, include) in _PANELS.items()
            if (curves := _source_curves(points, name, number))
        ]
        if drawings:
            legend = tuple(legend_entry(index, source) for source, index in number.items())
            caption = f"{run_name(unit)}, source by source: {_KINDS_OF_LINE}"
            figures.append(Figure(tuple(drawings), legend, caption))
    return tuple(figures)


def _source_curves(metrics: Sequence[Metric], name: str, number: Mapping[str, int]) -> list[Curve]:
    curves = []
    for source, index in number.items():
        for split in SPLITS:
            if points := points_of(metrics, f"{name}/{source}", split):
                size = bin_size(len(points)) if split == "train" else 1
                curves.append(Curve(index, source, split, binned(points, size)))
    return curves


def _cell(metrics: Sequence[Metric], name: str, source: str, kept_step: int | None) -> Cell:
    """The held-out value at the kept checkpoint; below it that before training, and that of training batches."""
    write = wording.percent if name == "accuracy" else lambda value: wording.plain(value, 3)
    heldout = dict(points_of(metrics, f"{name}/{source}", "validation"))
    trained = [value for _, value in points_of(metrics, f"{name}/{source}", "train")][-LAST_STEPS:]
    if not heldout and not trained:
        return EMPTY
    kept = None if kept_step is None else heldout.get(float(kept_step))
    notes = [f"from {write(heldout[0.0])}"] if kept is not None and 0.0 in heldout else []
    notes += [f"training {write(fmean(trained))}"] if trained else []
    return Cell(wording.NOT_MEASURED if kept is None else write(kept), "\n".join(notes))
