"""A plan on the console, within 80 columns: a table of units, then memory, what is asked elsewhere, what to know."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from limbeck.console import results, show
from limbeck.planning.asking import Asked
from limbeck.planning.assembly import Further, Plan, Planned, known_seconds
from limbeck.planning.machine import Machine, Memory
from limbeck.planning.ranges import Range, total
from limbeck.recipe.pairs import Budget
from limbeck.untrusted import visible

if TYPE_CHECKING:
    from limbeck.lm.speed import Speed

_WIDTH = 80
_LONGEST_NAME = 20  # of a unit in one line, beside columns as wide as the paper's recipe has them
_NEARLY = 0.1  # a range that is narrower is one number, with a sign that says it is about so much
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def show_plan(plan: Plan) -> None:
    """Print it."""
    results.print(_units(plan.units), width=_WIDTH)
    show(_time(plan))
    for line in [] if plan.further is None else _further(plan.further):
        show(line)
    for line in _memory(plan):
        show(line)
    if plan.room is not None:
        show(f"Disk: {plan.room}{'; this may not fit' if plan.room.is_short else ''}")
    if plan.asked:
        results.print()
        results.print(_requests(plan.asked), width=_WIDTH)
    for line in _asked(plan.asked):
        show(line)
    for note in plan.notes:
        show(f"- {note}")
    show("Nothing was sent, fetched or written into the run folder.")


def amount(value: Range | None) -> str:
    """A count or its bounds, in at most three figures: 947, ~12k, 1.2-3.4M. `?`: unknown; empty: none."""
    if value is None:
        return "?"
    if not value.high:
        return ""
    return _bounds(value, _UNITS)


def count(value: Range | None) -> str:
    """A number of rows or steps, all of its figures; empty: there are none."""
    if value is None or not value.high:
        return ""
    return f"{value.high:,.0f}" if value.is_exact else f"{value.low:,.0f}-{value.high:,.0f}"


def duration(seconds: Range | None) -> str:
    """How long, in bounds."""
    if seconds is None:
        return "?"
    if not seconds.high:
        return ""
    return "< 1 s" if seconds.high < 1 else _bounds(seconds, _TIMES, space=" ")


def dollars(value: Range | None) -> str:
    """Money, the likely and the worst case."""
    return "no price known" if value is None else f"${value.likely:,.2f}, at most ${value.high:,.2f}"


def _bounds(value: Range, units: Sequence[tuple[float, str]], space: str = "") -> str:
    size, unit = next(((size, unit) for size, unit in units if value.high >= size), (1.0, units[-1][1] * bool(space)))
    if value.is_exact and (size == 1 or value.high % size == 0):
        return f"{value.high / size:.0f}{space}{unit}"
    low, high = value.low / size, value.high / size
    if value.high - value.low <= _NEARLY * value.high:
        return f"~{_figures(value.likely / size)}{space}{unit}"
    if low < 0.1 and value.low:  # another unit says more than a row of zeros
        lowest = _bounds(_likely(Range(value.low, value.low, value.low)), units, space)
        return f"{lowest}-{_figures(high)}{space}{unit}"
    return f"{_figures(low)}-{_figures(high)}{space}{unit}"


def _two_figures(value: float) -> float:
    return float(f"{value:.2g}")


def _figures(value: float) -> str:
    return f"{value:.0f}" if value >= 10 or not value else f"{value:.1f}".removesuffix(".0")


def _units(units: Iterable[Planned]) -> Table:
    table = Table(title="Units in order; tokens trained on, only scored, and sampled", title_justify="left",
                  box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)  # fmt: skip
    table.add_column("unit", overflow="fold")
    for column in ("rows", "steps", "trained", "scored", "sampled", "time"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in units:
        table.add_row(escape(_folded(one.unit.name)), *_cells(one), style="dim" if one.is_fresh else None)
    return table


def _folded(name: str) -> str:
    """A unit's name; one that its column would break inside a word is broken after its stage."""
    return name if len(name) <= _LONGEST_NAME else name.replace("/", "/\n  ", 1)


def _cells(one: Planned) -> list[str]:
    work = one.work
    if one.is_fresh:
        return ["", "", "", "", "", "fresh"]
    if work.unknown is not None:
        return ["?"] * 6
    return [
        count(work.rows),
        count(work.steps),
        *map(amount, (work.trained, work.scored, work.sampled)),
        duration(one.seconds),
    ]


def _time(plan: Plan) -> str:
    due = [one for one in plan.units if not one.is_fresh]
    speed = plan.machine.speed
    if speed is None:
        return f"Hours: unknown ({plan.machine.words})"
    needed = duration(known_seconds(due)) or "nothing to compute"
    return f"In all: {needed}{_besides(due)} ({plan.machine.words}; {_timed(speed, plan.machine)})"


def _besides(units: Iterable[Planned]) -> str:
    beside = [one.unit.name for one in units if one.work.unknown is not None]
    return f", besides {', '.join(beside)}" if beside else ""


def _further(further: Further) -> list[str]:
    """What is not in the figures here: rounds after the first, of which nobody knows beforehand how many there are."""
    takes = duration(further.seconds) or "an unknown time"
    return [
        f"Further rounds, not in the figures here: at most {further.most}, each {takes}{_besides(further.units)}",
        *(f"Each further round: {line}, of the same budget" for line in _costs(further.asked).values()),
    ]


def _timed(speed: "Speed", machine: Machine) -> str:
    rates = f"{_figures(speed.trained)} tokens/s trained, {_figures(speed.sampled)} sampled"
    if speed.part.layers == machine.layers:
        return f"timed on a network of this shape: {rates}"
    return f"timed on {speed.part.layers} of {machine.layers} layers, scaled by their weights: {rates}"


def _memory(plan: Plan) -> list[str]:
    lines = []
    from limbeck.lm.memory import amount as size

    needed = {one.unit.name: one.memory for one in plan.units if one.memory is not None}
    if needed:
        name, most = max(needed.items(), key=lambda one: _peak(one[1]))
        how = "computed again" if most.recomputed else "kept"
        fits = "" if most.estimate.fits(most.recomputed) else "; this may not fit"
        lines.append(
            f"Memory: training needs at most {size(_peak(most))} ({name}, activations {how}) of "
            f"{size(plan.machine.free_bytes)} that are free{fits}"
        )
    cache = max((one.cache_bytes for one in plan.units), default=0)
    if cache:
        lines.append(
            f"Memory: keys and values of a sampler, at most {size(cache)} beside the weights; where that is "
            "more than half of what is free, fewer samples are written at once"
        )
    return lines


def _peak(memory: Memory) -> int:
    return memory.estimate.peak_bytes(memory.recomputed)


def _requests(asked: Iterable[Asked]) -> Table:
    table = Table(title="Asked elsewhere", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("who, for what", overflow="fold")
    for column in ("requests", "prompts", "replies", "cost"):
        table.add_column(column, justify="right", overflow="fold")
    for one in asked:
        cells = map(amount, (one.requests, one.tokens_in, one.tokens_out))
        table.add_row(escape(visible(f"{one.who}, {one.what}")), *cells, dollars(one.dollars))
    return table


def _asked(asked: Sequence[Asked]) -> list[str]:
    """What it costs in all, account by account, and what may be spent."""
    budgets = {one.field: one.budget for one in asked}
    return [f"{cost}; {_budget(budgets[field])}" for field, cost in _costs(asked).items()]


def _costs(asked: Sequence[Asked]) -> dict[str, str]:
    """What it costs, by the field of the account."""
    lines = {}
    for field in dict.fromkeys(one.field for one in asked):
        mine = [one for one in asked if one.field == field]
        tokens = total(one.tokens for one in mine)
        likely = amount(_likely(tokens))
        lines[field] = f"Cost, {mine[0].who}: {_cost(mine)}; {amount(tokens)} tokens, likely {likely}"
    return lines


def _cost(asked: Iterable[Asked]) -> str:
    known = [one.dollars for one in asked if one.dollars is not None]
    return dollars(total(known) if known else None)


def _likely(value: Range) -> Range:
    near = _two_figures(value.likely)
    return Range(near, near, near)


def _budget(budget: Budget) -> str:
    limits = [] if budget.usd is None else [f"${budget.usd:g}"]
    limits += [] if budget.tokens is None else [f"{budget.tokens:,} tokens"]
    return f"budget {' and '.join(limits)}" if limits else "no budget"
