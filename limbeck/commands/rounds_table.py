"""What iterated runs gained, as a table on the console."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from limbeck.console import results, show
from limbeck.errors import InputError
from limbeck.records import Estimate
from limbeck.records.rounds import Round, RoundsRecord
from limbeck.store import read_record

_COLUMNS = ("round", "score", "gain over\nthe last", "gain over\nSFT", "pairs", "gain per\n1,000 pairs", "gain\nper $",
            "gain\nper hour")  # fmt: skip


def show_rounds(path: Path) -> None:
    """Print the table of a run's rounds, why they ended, and what qualifies their figures.

    Raises:
        InputError: where there is none.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist: the rounds of this run are not finished")
    record = read_record(path, RoundsRecord)
    unit = "points" if record.judge == "verifier" else "in its unit"
    title = (
        f"Rounds of {escape(record.arm)}, by {record.judge}, {unit}; below each {100 * record.confidence:g} % interval"
    )
    table = Table(title=title, title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="right", overflow="fold")
    for one in record.rounds:
        table.add_row(*_row(one, 100 if record.judge == "verifier" else 1))
    results.print()
    results.print(table)
    show(f"No further round: {record.why}.")
    for limit in record.limits:
        show(f"{limit[0].upper()}{limit[1:]}.")


def _row(one: Round, scale: int) -> list[str]:
    rates = (one.gain_per_usd, one.gain_per_hour)
    return [
        str(one.number),
        _estimate(one.score, scale),
        _estimate(one.gain, scale, "+"),
        _estimate(one.gain_over_sft, scale, "+"),
        f"{one.pairs:,}",
        _number(one.gain_per_1000_pairs, scale),
        *(_number(rate, scale) for rate in rates),
    ]


def _estimate(found: Estimate | None, scale: int, sign: str = "") -> str:
    if found is None:
        return "-"
    digits = f"{sign}.{1 if scale == 100 else 2}f"
    low, high = (format(scale * end, digits) for end in (found.low, found.high))
    return f"{scale * found.estimate:{digits}}\n\\[{low}, {high}]"


def _number(value: float | None, scale: int) -> str:
    return "-" if value is None else f"{scale * value:+.2f}"
