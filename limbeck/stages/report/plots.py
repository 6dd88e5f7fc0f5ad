"""Figures of many prompts: points, histograms, won-tied-lost bars. Pure functions from plain values to drawings.

Points of a panel are one path, however many they are: a page of thousands of prompts opens at once. Refuses to know
records and files: `outcomes.py` and `trust.py` choose what is drawn.
"""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import quantiles
from typing import NamedTuple

from markupsafe import Markup

from limbeck.stages.report import svg
from limbeck.stages.report.figures import shortened, value_axis_line

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 340, 262, 52, 332, 34, 212
FENCES = 6.0  # twice Tukey's outer fences: what lies beyond them stands at the edge of a panel
MOST_BINS = 31  # of a histogram; odd, so that one bin holds no difference


class Axis(NamedTuple):
    """What an axis says, and values it must reach."""

    caption: str
    include: tuple[float, ...] = ()


class Points(NamedTuple):
    """Points of one series, with what is printed beside the title."""

    series: int
    title: str
    note: str
    places: tuple[tuple[float, float], ...]


class Tally(NamedTuple):
    """How often a candidate won, tied and lost, with a label, small print, and what is printed at the right."""

    label: str
    note: str
    wins: int
    ties: int
    losses: int
    aside: str


def point_panel(points: Points, across: Axis, up: Axis, *, diagonal: bool = False) -> Markup:
    """Points in a square of axes; `diagonal` draws the line of equal values, on axes of equal range."""
    xs, ys = core([x for x, _ in points.places]), core([y for _, y in points.places])
    both = (*xs, *ys) if diagonal else None
    x_scale = svg.Scale(*svg.domain(both or xs, include=across.include), _LEFT, _RIGHT)
    y_scale = svg.Scale(*svg.domain(both or ys, include=up.include), _BOTTOM, _TOP)
    parts = _frame(points.title, points.note, x_scale, y_scale, across.caption, up.caption)
    if diagonal:
        parts.append(svg.line(x_scale.start, y_scale.start, x_scale.end, y_scale.end, "zero"))
    # A subpath of no length is a dot as wide as the stroke.
    places = ((_within(x, x_scale), _within(y, y_scale)) for x, y in points.places)
    dots = "".join(f"M{svg.number(x_scale.at(x))},{svg.number(y_scale.at(y))}h0" for x, y in places)
    parts.append(svg.tag("path", d=dots, class_=f"points {svg.colour_class(points.series)}"))
    label = f"{points.title}: {up.caption} over {across.caption}, {len(points.places)} prompts"
    return svg.drawing(_WIDTH, _HEIGHT, label, *parts)


def core(values: Sequence[float]) -> tuple[float, float]:
    """The range in which all but far outliers lie: FENCES interquartile ranges beyond the quartiles at most.

    One reply of a million tokens would else press all others into one line. No limit where the quartiles are equal.
    """
    low, high = min(values), max(values)
    if len(values) < 4:
        return low, high
    first, _, third = quantiles(values, n=4, method="inclusive")
    reach = FENCES * (third - first)
    return (max(low, first - reach), min(high, third + reach)) if reach else (low, high)


def _within(value: float, scale: svg.Scale) -> float:
    return min(max(value, scale.low), scale.high)


def histogram_panel(title: str, note: str, values: Sequence[float], caption: str) -> Markup:
    """How often which difference occurs, in bins around zero; bars right of zero are for the candidate."""
    low, high = core(values)
    values = [min(max(value, low), high) for value in values]
    width = bin_width(values)
    counts = Counter(math.floor(value / width + 0.5) for value in values)
    last = max(abs(place) for place in counts)
    x_scale = svg.Scale(-(last + 0.5) * width, (last + 0.5) * width, _LEFT, _RIGHT)
    y_scale = svg.Scale(*svg.domain([max(counts.values())], include=(0,)), _BOTTOM, _TOP)
    parts = _frame(title, note, x_scale, y_scale, caption, "prompts")
    for place, number in sorted(counts.items()):
        x, end = x_scale.at((place - 0.5) * width), x_scale.at((place + 0.5) * width)
        y, kind = y_scale.at(number), "won" if place > 0 else "lost" if place < 0 else "tied"
        middle = f"{place * width:.3g}".replace("-", "\u2212")
        tip = svg.tag("title", f"{middle} ± {width / 2:.2g}: {number} prompts")
        shape = {"x": x + 0.5, "y": y, "width": max(end - x - 1, 0.5), "height": y_scale.start - y}
        parts.append(svg.tag("rect", tip, **shape, class_=f"bar {kind}"))
    parts.append(svg.line(x_scale.at(0), _TOP, x_scale.at(0), _BOTTOM, "zero"))
    return svg.drawing(_WIDTH, _HEIGHT, f"{title}: how often which {caption} occurs", *parts)


def bin_width(values: Sequence[float]) -> float:
    """A round width (1, 2 or 5 times a power of ten) that puts all values into at most MOST_BINS bins around zero."""
    reach = max(map(abs, values), default=0) or 1.0
    least = 2 * reach / (MOST_BINS - 1)
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def _frame(title: str, note: str, across: svg.Scale, up: svg.Scale, x_caption: str, y_caption: str) -> list[Markup]:
    shown = shortened(title)
    tip = title if shown != title else ""
    parts = [svg.text(0, 15, shown, "label strong", tip=tip), svg.text(_RIGHT, 15, note, "label muted", "end")]
    parts.append(value_axis_line(across, up))
    middle = (across.start + across.end) / 2
    parts.append(svg.text(middle, _HEIGHT - 8, f"→ {x_caption}  ·  ↑ {y_caption}", "label muted", "middle"))
    return parts


def tally_bars(label: str, rows: Sequence[Tally]) -> Markup:
    """Bars of the same length, split into won, tied and lost; counts stand in their parts where there is room."""
    width, left, right, height = 1040, 225, 760, 40
    bottom, half = 4.0 + height * len(rows), (left + right) / 2
    parts: list[Markup] = [svg.line(half, 0, half, bottom, "zero dashed")]
    for index, row in enumerate(rows):
        y, n = 4.0 + height * index, row.wins + row.ties + row.losses
        shown = shortened(row.label)
        parts.append(svg.text(0, y + 13, shown, "label strong", tip=row.label if shown != row.label else ""))
        parts.append(svg.text(0, y + 29, row.note, "label muted"))
        x = float(left)
        for kind, number in (("won", row.wins), ("tied", row.ties), ("lost", row.losses)):
            long = (right - left) * number / n if n else 0.0
            parts += _part(kind, number, x, y + 3, long)
            x += long
        parts.append(svg.text(right + 18, y + 20, row.aside, "label"))
    return svg.drawing(width, bottom + 4, label, *parts)


def _part(kind: str, number: int, x: float, y: float, long: float) -> list[Markup]:
    if number == 0:
        return []
    tip = svg.tag("title", f"{kind}: {number}")
    parts = [svg.tag("rect", tip, x=x, y=y, width=max(long - 1, 0.5), height=24, class_=f"bar {kind}")]
    written = f"{number:,}"
    if long > 9 * len(written) + 6:
        parts.append(svg.text(x + long / 2, y + 16.5, written, f"label on-{kind}", "middle"))
    return parts
