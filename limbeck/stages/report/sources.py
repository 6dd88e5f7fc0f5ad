"""Source by source: what training did to human and to synthetic rows, each by itself, as one table.

A single curve hides a mixture whose human half is learnt while its synthetic half is not. Refuses to know how training
works: a metric called `NAME/SOURCE` is a value of that source.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from limbeck.records import Metric
from limbeck.stages.report import wording
from limbeck.stages.report.curves import points_of, run_name
from limbeck.stages.report.tables import EMPTY, Cell, Column, Table

LAST_STEPS = 20  # of training that are averaged
_QUANTITIES = ("accuracy", "margin", "loss")


def source_table(metrics: Mapping[str, tuple[Metric, ...]]) -> Table | None:
    """A row a run and source; None where no run's rows had several sources."""
    rows = tuple(
        (Cell(run_name(unit)), Cell(source), *(_cell(points, name, source) for name in _QUANTITIES))
        for unit, points in metrics.items()
        for source in sources_of(points)
    )
    columns = (Column("Run", "head"), Column("Source", "text"), Column("Accuracy"), Column("Margin"), Column("Loss"))
    return Table(columns, rows) if rows else None


def sources_of(metrics: Sequence[Metric]) -> list[str]:
    """The sources that a run's metrics are split by, in alphabetical order; a source's own name may hold a slash."""
    names = {name for metric in metrics for name in metric.values}
    return sorted({name.partition("/")[2] for name in names if "/" in name})


def _cell(metrics: Sequence[Metric], name: str, source: str) -> Cell:
    """The held-out value at the kept checkpoint; below it that before training, and that of training batches."""
    write = wording.percent if name == "accuracy" else lambda value: wording.plain(value, 3)
    heldout = dict(points_of(metrics, f"{name}/{source}", "validation"))
    trained = [value for _, value in points_of(metrics, f"{name}/{source}", "train")][-LAST_STEPS:]
    if not heldout and not trained:
        return EMPTY
    kept = heldout.get(_kept_step(metrics))
    notes = [f"from {write(heldout[0.0])}"] if kept is not None and 0.0 in heldout else []
    notes += [f"training {write(fmean(trained))}"] if trained else []
    return Cell(wording.NOT_MEASURED if kept is None else write(kept), "\n".join(notes))


def _kept_step(metrics: Sequence[Metric]) -> float:
    """The step of the lowest validation loss, the earlier of equals: what training keeps; -1 without validation."""
    losses = points_of(metrics, "loss", "validation")
    return min(losses, key=lambda point: point[1])[0] if losses else -1.0
