"""A published table with this run's columns, its figures from this run's curves: for the page and for pasting.

Refuses to match or to compare anything: `published.py` did.
"""

from collections.abc import Callable, Mapping, Sequence

from limbeck.recipe.published import PublishedFigure
from limbeck.records import Estimate, Metric
from limbeck.stages.report import wording
from limbeck.stages.report.curves import (
    SPLITS,
    START_OF_ACCURACY,
    Curves,
    bin_size,
    binned,
    kinds_of_line,
    marks_of,
    points_of,
    run_name,
)
from limbeck.stages.report.figures import Curve, legend_entry, panel
from limbeck.stages.report.published import Beside, Row, Rows
from limbeck.stages.report.results import Figure
from limbeck.stages.report.tables import EMPTY, Cell, Column, Table
from limbeck.stages.report.trust import NumberedAlarm
from limbeck.statistics import Ties

TIES: dict[Ties, str] = {"half": "a tie is half a win", "loss": "a tie is no win"}
_PLACES = {"inside": "inside ours", "above": "outside ours", "below": "outside ours"}
_TITLE_CHARACTERS = 34  # of a panel's title, what stands beside its unit


def table_of(found: Rows) -> Table:
    """The published table, every published column followed by ours."""
    columns = [
        Column("Model", "head"),
        Column(f"Win rate against {found.baseline}, published"),
        Column(f"Ours, {TIES[found.published.ties]}"),
        Column(f"Ours, {TIES[found.other_ties]}"),
        Column("Prompts"),
        Column("Ties"),
        Column("Unscored"),
    ]
    if found.has_reward:
        columns += [Column("Average reward, published"), Column("Ours")]
    if found.has_against:
        columns += [
            Column("Win rate against given responses, published"),
            Column(f"Ours, {TIES[found.published.ties]}"),
        ]
    return Table(tuple(columns), tuple(_cells(row, found) for row in found.rows))


def _cells(row: Row, found: Rows) -> tuple[Cell, ...]:
    compared = row.comparison
    cells = [Cell(row.model), _published(row.win_rate, wording.percent), _rate(row.win_rate.ours),
             _rate(row.other_ties)]  # fmt: skip
    if compared is None:
        cells += [EMPTY, EMPTY, EMPTY]
    else:
        rows = compared.wins + compared.ties + compared.losses
        cells += [Cell(wording.count(compared.win_rate.n)),
                  Cell(wording.count(compared.ties), wording.percent(compared.ties / rows)),
                  Cell(wording.count(compared.unscored))]  # fmt: skip
    if found.has_reward:
        cells += [_published(row.reward, wording.plain), _reward(row.reward.ours)]
    if found.has_against:
        cells += [_published(row.against, wording.percent), _rate(row.against.ours)]
    return tuple(cells)


def _published(found: Beside, written: Callable[[float], str]) -> Cell:
    """A published figure; below it its own interval, and whether it lies inside ours."""
    if found.published is None:
        return EMPTY
    notes = [wording.percent_interval(found.interval)] if found.interval else []
    notes += [_PLACES[found.place]] if found.place else []
    return Cell(written(found.published), "\n".join(notes))


def _rate(found: Estimate | None) -> Cell:
    return EMPTY if found is None else Cell(wording.percent(found.estimate), wording.percent_interval(found))


def _reward(found: Estimate | None) -> Cell:
    if found is None:
        return EMPTY
    bounds = f"[{wording.plain(found.low)}, {wording.plain(found.high)}]"
    return Cell(wording.plain(found.estimate), bounds)


def caption_of(found: Rows) -> str:
    """What the table's figures are, and what they cannot say."""
    resting = f", on {wording.count(found.published.prompts)} prompts" if found.published.prompts else ""
    said = (
        f"Published: {found.published.source}{resting}. Ours: this run, judge {found.judge}; brackets hold "
        f"{100 * found.confidence:g}% intervals over prompts, each by itself. Whether a published figure lies inside "
        "or outside ours goes by our interval, ties counted as published."
    )
    if not found.has_reward:
        return said
    by = f" (ours by {found.reward_judge})" if found.reward_judge else ""
    return f"{said} Average rewards{by} compare only where reward model and prompts are the same."


def notes_of(found: Rows) -> tuple[str, ...]:
    """The notes of rows, by their model, then those of the table."""
    return (*(f"{row.model}: {row.note}" for row in found.rows if row.note), *found.published.notes)


def outside_of(found: Rows) -> str:
    """How many published figures lie outside our intervals, in a sentence."""
    places = [beside.place for row in found.rows for beside in (row.win_rate, row.against, row.reward)]
    known = [place for place in places if place is not None]
    if not known:
        return "No published figure has one of this run beside it."
    outside = sum(place != "inside" for place in known)
    return f"{outside} of {len(known)} published figures lie outside this run’s intervals."


def figure_of(
    found: Rows,
    metrics: Mapping[str, tuple[Metric, ...]],
    series: Mapping[str, int],
    alarms: Sequence[NumberedAlarm] = (),
) -> Curves:
    """The published figures from our curves, a panel each; and a sentence on each that cannot be drawn."""
    drawings, told, notes = [], [], []
    drawn: dict[str, tuple[Metric, ...]] = {}  # by name
    for wanted in found.published.figures:
        name, points = run_name(wanted.unit), metrics.get(wanted.unit, ())
        curves = _curves(wanted, points, series.get(name, 1))
        if not curves:
            notes.append(f"{wanted.title}: {wanted.unit} logged no {wanted.value}.")
            continue
        include = (0.5,) if _is_accuracy(wanted) else ()
        title = wanted.title if len(wanted.title) <= _TITLE_CHARACTERS else f"{wanted.title[: _TITLE_CHARACTERS - 1]}…"
        drawings.append(panel(title, wanted.value, curves, include, marks_of((wanted.unit,), alarms)))
        told.append(f"{wanted.title} ({wanted.value} of {name})")
        drawn[name] = points
    if not drawings:
        return Curves(None, tuple(notes))
    start = f" {START_OF_ACCURACY}" if any(map(_is_accuracy, found.published.figures)) else ""
    caption = f"{'; '.join(told)}. {kinds_of_line(drawn)}{start}"
    legend = tuple(legend_entry(series.get(name, 1), name) for name in drawn)
    return Curves(Figure(tuple(drawings), legend, caption), tuple(notes))


def _is_accuracy(wanted: PublishedFigure) -> bool:
    return wanted.value.partition("/")[0] == "accuracy"


def _curves(wanted: PublishedFigure, metrics: Sequence[Metric], series: int) -> list[Curve]:
    found = {split: points_of(metrics, wanted.value, split) for split in SPLITS}
    sizes = {"train": bin_size(len(found["train"])), "validation": 1}
    name = run_name(wanted.unit)
    return [Curve(series, name, split, binned(points, sizes[split])) for split, points in found.items() if points]
