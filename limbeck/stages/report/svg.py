"""Scalable vector graphics, by hand: elements, scales, ticks and markers. Pure functions from numbers to markup.

Colours and fonts are classes that the page's style sheet fills in, so one drawing reads well in a light and in a dark
scheme. Everything a caller passes as text is escaped. Refuses to know what is drawn.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from limbeck.untrusted import visible

COLOURS = 8  # classes .c0 to .c7 of the style sheet: two for the models before DPO, six for arms
_SHAPES = (  # unit-sized outlines around (0, 0); five shapes against six arm colours: 30 pairs before one returns
    "M-1,0A1,1 0 1,0 1,0A1,1 0 1,0 -1,0Z",
    "M-.9,-.9H.9V.9H-.9Z",
    "M0,-1.2L1.1,.8H-1.1Z",
    "M0,-1.3L1.2,0L0,1.3L-1.2,0Z",
    "M0,1.2L1.1,-.8H-1.1Z",
)


class Scale(NamedTuple):
    """A linear map from the values `low..high` to the places `start..end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def tag(name: str, *children: str, **attributes: str | float) -> Markup:
    """An element. `class_` is `class`, `stroke_width` is `stroke-width`; children that are not markup are escaped."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _attribute(value))
        for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, join(children))


def join(parts: Iterable[str]) -> Markup:
    """Markup as it is, text made visible and escaped."""
    return Markup("").join(part if isinstance(part, Markup) else visible(part) for part in parts)


def _attribute(value: str | float) -> str:
    return visible(value) if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """A coordinate: two decimals are a hundredth of a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def drawing(width: float, height: float, label: str, *children: str) -> Markup:
    """A whole drawing; `label` is what a screen reader says."""
    box = f"0 0 {number(width)} {number(height)}"
    return tag("svg", *children, viewBox=box, role="img", aria_label=label)


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start", tip: str = "") -> Markup:
    """A line of text; `tip` is shown on hovering."""
    children = (content, tag("title", tip)) if tip else (content,)
    return tag("text", *children, x=x, y=y, class_=kind or "label", text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def colour_class(series: int) -> str:
    """The class of a series: 0 and 1 are the models before DPO, arms share the rest in turn."""
    return f"c{series if series < 2 else 2 + (series - 2) % (COLOURS - 2)}"


def marker(series: int, x: float, y: float, size: float, tip: str = "") -> Markup:
    """The mark of a series: colour and shape both tell it apart."""
    shape = _SHAPES[series % len(_SHAPES)]
    place = f"translate({number(x)},{number(y)}) scale({number(size)})"
    children = (tag("title", tip),) if tip else ()
    return tag("path", *children, d=shape, transform=place, class_=f"dot {colour_class(series)}")


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values between `low` and `high`: steps of 1, 2 or 5 times a power of ten, `most` steps at most."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if (high - low) / (power * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """What to print at ticks: as many decimals as their step needs, powers of ten (`5e−5`) below a thousandth."""
    step = abs(values[1] - values[0]) if len(values) > 1 else abs(values[0]) or 1
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [_tick_label(value, decimals).replace("-", "\u2212") for value in values]


def _tick_label(value: float, decimals: int) -> str:
    if value == 0:
        return "0"
    if decimals <= 3:
        return f"{value:,.{decimals}f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def domain(values: Iterable[float], *, include: tuple[float, ...] = ()) -> tuple[float, float]:
    """The range that shows all values with a little air, none beyond an included value; never empty."""
    known = [*values, *include]
    low, high = min(known), max(known)
    if math.isclose(low, high, abs_tol=1e-12):  # what differs by rounding only has no range to show
        return (low, high + (abs(high) or 1)) if low in include else (low - (abs(low) or 1), high + (abs(high) or 1))
    air = 0.04 * (high - low)
    return low if low in include else low - air, high if high in include else high + air
