"""Wording of figures: percentages, points, intervals, p-values, durations. Pure functions from numbers to text.

One decimal for percentages, a sign for differences (U+2212 for minus), a dash for what was not measured. Refuses to
call anything good or bad.
"""

from collections.abc import Mapping

from limbeck.records import Estimate

NOT_MEASURED = "–"
_MINUS = "\u2212"


def percent(share: float) -> str:
    """`0.617` as `61.7%`."""
    return f"{100 * share:.1f}%"


def percent_interval(estimate: Estimate) -> str:
    """The bounds of a share as `[54.0, 69.3]`, in per cent."""
    return f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def signed(value: float, decimals: int = 1) -> str:
    """A difference with its sign; what rounds to nothing has none."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", _MINUS)


def plain(value: float, decimals: int = 2) -> str:
    """A number with a proper minus sign."""
    return f"{value:,.{decimals}f}".replace("-", _MINUS)


def difference(estimate: Estimate, judge: str) -> str:
    """A paired difference with its unit: points of accuracy for the verifier, else the judge's own unit."""
    return f"{signed(100 * estimate.estimate)} points" if judge == "verifier" else signed(estimate.estimate, 2)


def difference_interval(estimate: Estimate, judge: str) -> str:
    """The bounds of a paired difference, in the unit of `difference`."""
    scale, decimals = (100, 1) if judge == "verifier" else (1, 2)
    return f"[{signed(scale * estimate.low, decimals)}, {signed(scale * estimate.high, decimals)}]"


def p_value(p: float) -> str:
    """`p = 0.012`, or `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def count(number: int) -> str:
    """`12,345`."""
    return f"{number:,}"


def count_of(number: int, total: int) -> str:
    """A count with its share of `total`: `3 (5.0%)`."""
    return f"{count(number)} ({percent(number / total)})" if total else count(number)


def duration(seconds: float) -> str:
    """`3 h 12 min`, `4 min 10 s` or `2.3 s`: two units at most."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def money(usd: float) -> str:
    """US dollars; small sums keep the digits that say they are not nothing."""
    return f"${usd:,.4f}" if 0 < usd < 0.01 else f"${usd:,.2f}"


def named_counts(counts: Mapping[str, int]) -> str:
    """One `name: 1,234` a line."""
    return "\n".join(f"{name}: {count(number)}" for name, number in counts.items())
