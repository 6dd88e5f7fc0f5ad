"""Numbers that are known within bounds: the lowest, the likely and the highest value. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True)
class Range:
    """0 <= low <= likely <= high. Sums and products of ranges hold sums and products of their bounds."""

    low: float
    likely: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def __mul__(self, other: Union["Range", float]) -> "Range":
        by = other if isinstance(other, Range) else exact(other)
        return Range(self.low * by.low, self.likely * by.likely, self.high * by.high)

    def per(self, rate: "Range") -> "Range":
        """Divided by a rate: the most by the lowest rate."""
        return Range(self.low / rate.high, self.likely / rate.likely, self.high / rate.low)

    def capped(self, most: float) -> "Range":
        """None of the three above `most`."""
        return self.each(lambda value: min(value, most))

    def each(self, change: Callable[[float], float]) -> "Range":
        """A function that never falls, of all three."""
        return Range(change(self.low), change(self.likely), change(self.high))

    @property
    def is_exact(self) -> bool:
        """Whether the bounds are one number."""
        return self.low == self.high


def exact(value: float) -> Range:
    """A number that is known."""
    return Range(value, value, value)


ZERO = exact(0)


def total(ranges: Iterable[Range]) -> Range:
    """Their sum."""
    return sum(ranges, start=ZERO)


def mean_of(weighted: Iterable[tuple[float, Range]]) -> Range:
    """The mean of ranges, each by its weight; zero where all weights are."""
    parts = list(weighted)
    weight = sum(part for part, _ in parts)
    return total(value * (part / weight) for part, value in parts) if weight else ZERO
