"""Figures: dots with whiskers, curves, bars. Pure functions from plain values to drawings.

Each draws axes with units and carries exact values as hover text. Refuses to know records and files: `results.py`,
`curves.py` and `ledger.py` choose what is drawn.
"""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from limbeck.records import Estimate
from limbeck.stages.report import svg

_WIDTH = 1040
_LABEL_CHARACTERS = 30  # of 13 px type, what fits the label column


class Dot(NamedTuple):
    """One estimate of one series; `aside` is printed at the right of its whisker's row."""

    series: int
    estimate: Estimate
    tip: str
    aside: str = ""


class DotGroup(NamedTuple):
    """Estimates that belong together, under one label; `note` is small print below it."""

    label: str
    note: str
    dots: tuple[Dot, ...]


class DotAxis(NamedTuple):
    """The value axis: its caption, the factor from estimates to what is printed, and values it must reach."""

    caption: str
    factor: float = 1
    include: tuple[float, ...] = ()
    zero_line: bool = False


class Curve(NamedTuple):
    """One line of a panel. Training curves are thin, validation curves strong with a mark at every point."""

    series: int
    name: str
    split: str
    points: tuple[tuple[float, float], ...]


class Mark(NamedTuple):
    """An alarm at a step: its number in the list of alarms, and what it says."""

    step: float
    number: int
    tip: str


class Bar(NamedTuple):
    """A bar with its label and what is printed at its end."""

    label: str
    value: float
    text: str


class Legend(NamedTuple):
    """An entry of a legend: a mark and the name of its series."""

    mark: Markup
    name: str


def legend_entry(series: int, name: str) -> Legend:
    """The mark of a series, as a drawing of its own."""
    return Legend(svg.tag("svg", svg.marker(series, 8, 8, 5), viewBox="0 0 16 16", aria_hidden="true"), name)


def dot_whisker(label: str, groups: Sequence[DotGroup], axis: DotAxis) -> Markup:
    """Estimates with their intervals, one row each, grouped; all on one axis."""
    row_height, gap, top, left = 19, 15, 8, 225
    right = _WIDTH - (330 if any(dot.aside for group in groups for dot in group.dots) else 24)
    bounds = [axis.factor * v for g in groups for d in g.dots for v in (d.estimate.low, d.estimate.high)]
    scale = svg.Scale(*svg.domain(bounds, include=axis.include), left, right)
    heights = [row_height * max(len(group.dots), 2 if group.note else 1) + gap for group in groups]
    bottom = top + sum(heights)
    parts: list[Markup] = [_value_axis(scale, top, bottom, axis)]
    y = float(top)
    for group, height in zip(groups, heights, strict=True):
        parts += _group(group, scale, axis.factor, y + gap / 2, row_height)
        y += height
        parts.append(svg.line(0, y, right, y, "grid"))
    return svg.drawing(_WIDTH, bottom + 44, label, *parts)


def _group(group: DotGroup, scale: svg.Scale, factor: float, top: float, row_height: float) -> list[Markup]:
    shown = shortened(group.label)
    parts = [svg.text(0, top + 13.5, shown, "label strong", tip=group.label if shown != group.label else "")]
    if group.note:
        parts.append(svg.text(0, top + 31, group.note, "label muted"))
    for index, dot in enumerate(group.dots):
        y = top + row_height * (index + 0.5)
        low, middle, high = (scale.at(factor * v) for v in (dot.estimate.low, dot.estimate.estimate, dot.estimate.high))
        parts.append(svg.line(low, y, high, y, f"whisker {svg.colour_class(dot.series)}"))
        parts.append(svg.marker(dot.series, middle, y, 5, dot.tip))
        if dot.aside:
            parts.append(svg.text(scale.end + 18, y + 4.5, dot.aside, "label"))
    return parts


def shortened(label: str) -> str:
    """A label as far as its column holds it."""
    return label if len(label) <= _LABEL_CHARACTERS else f"{label[: _LABEL_CHARACTERS - 1]}…"


def _value_axis(scale: svg.Scale, top: float, bottom: float, axis: DotAxis) -> Markup:
    parts = []
    ticks = svg.ticks(scale.low, scale.high, 9)
    for tick, label in zip(ticks, svg.tick_labels(ticks), strict=True):
        x = scale.at(tick)
        parts.append(svg.line(x, top, x, bottom, "grid"))
        parts.append(svg.text(x, bottom + 16, label, "label tick", "middle"))
    if axis.zero_line:
        parts.append(svg.line(scale.at(0), top, scale.at(0), bottom, "zero"))
    parts.append(svg.text((scale.start + scale.end) / 2, bottom + 36, axis.caption, "label", "middle"))
    return svg.tag("g", *parts)


def panel(
    title: str, unit: str, curves: Sequence[Curve], include: tuple[float, ...] = (), marks: Sequence[Mark] = ()
) -> Markup:
    """Curves over optimizer steps; the unit of the value stands beside the title, alarms at their steps."""
    width, height, left, right, top, bottom = 340, 236, 50, 332, 34, 196
    points = [point for curve in curves for point in curve.points]
    across = svg.Scale(*svg.domain([x for x, _ in points], include=(0,)), left, right)
    up = svg.Scale(*svg.domain([y for _, y in points], include=include), bottom, top)
    parts = [svg.text(0, 15, title, "label strong"), svg.text(right, 15, unit, "label muted", "end")]
    parts += [value_axis_line(across, up)]
    parts.append(svg.text((left + right) / 2, height - 5, "optimizer step", "label muted", "middle"))
    parts += _marks([mark for mark in marks if across.low <= mark.step <= across.high], across, up)
    parts += [_curve(curve, across, up) for curve in sorted(curves, key=lambda curve: curve.split)]
    return svg.drawing(width, height, f"{title}, {unit}, over optimizer steps", *parts)


def value_axis_line(across: svg.Scale, up: svg.Scale) -> Markup:
    """The axes of a panel: a line below, rounded values on both, a strong line at zero."""
    left, right, bottom = across.start, across.end, up.start
    parts = [svg.line(left, bottom, right, bottom, "axis")]
    rows, columns = svg.ticks(up.low, up.high, 6), svg.ticks(across.low, across.high, 5)
    for tick, label in zip(rows, svg.tick_labels(rows), strict=True):
        y = up.at(tick)
        parts.append(svg.line(left, y, right, y, "zero" if tick == 0 else "grid"))
        parts.append(svg.text(left - 6, y + 4.5, label, "label tick", "end"))
    for tick, label in zip(columns, svg.tick_labels(columns), strict=True):
        x = across.at(tick)
        parts.append(svg.line(x, bottom, x, bottom + 4, "axis"))
        parts.append(svg.text(x, bottom + 18, label, "label tick", "middle"))
    return svg.tag("g", *parts)


def _marks(marks: Sequence[Mark], across: svg.Scale, up: svg.Scale) -> list[Markup]:
    """A dashed line a step; numbers that would touch are written together."""
    parts: list[Markup] = []
    groups: list[list[Mark]] = []
    for mark in sorted(marks):
        if groups and across.at(mark.step) - across.at(groups[-1][0].step) < 16:
            groups[-1].append(mark)
        else:
            groups.append([mark])
    for group in groups:
        x = across.at(group[0].step)
        numbers = [str(number) for number in sorted({mark.number for mark in group})]
        said = ",".join(numbers[:3]) + ("…" if len(numbers) > 3 else "")
        tip = "\n".join(f"alarm {mark.number}, step {mark.step:g}: {mark.tip}" for mark in group)
        parts.append(svg.line(x, up.end, x, up.start, "mark"))
        parts.append(svg.text(x, up.end - 3, f"⚠{said}", "label mark-number", "middle", tip))
    return parts


def _curve(curve: Curve, across: svg.Scale, up: svg.Scale) -> Markup:
    places = [(across.at(x), up.at(y)) for x, y in curve.points]
    path = " ".join(f"{svg.number(x)},{svg.number(y)}" for x, y in places)
    drawn = [svg.tag("polyline", points=path, class_=f"curve {curve.split} {svg.colour_class(curve.series)}")]
    if curve.split == "validation" or len(places) == 1:
        for (x, y), (step, value) in zip(places, curve.points, strict=True):
            tip = f"{curve.name}, {curve.split}, step {step:g}: {value:.4g}"
            drawn.append(svg.marker(curve.series, x, y, 3.5, tip))
    return svg.tag("g", *drawn)


def bars(label: str, rows: Sequence[Bar], caption: str) -> Markup:
    """Horizontal bars from zero, in the order given."""
    row_height, top, left, right = 24, 4, 225, _WIDTH - 120
    bottom = top + row_height * len(rows)
    scale = svg.Scale(0, max(row.value for row in rows) or 1, left, right)
    parts = [_value_axis(scale, top, bottom, DotAxis(caption))]
    for index, row in enumerate(rows):
        y = top + row_height * index
        parts.append(svg.text(0, y + 16.5, shortened(row.label), "label", tip=row.label))
        parts.append(svg.tag("rect", x=left, y=y + 4, width=scale.at(row.value) - left, height=16, class_="bar"))
        parts.append(svg.text(scale.at(row.value) + 7, y + 16.5, row.text, "label"))
    parts.append(svg.line(left, top, left, bottom, "axis"))
    return svg.drawing(_WIDTH, bottom + 44, label, *parts)
