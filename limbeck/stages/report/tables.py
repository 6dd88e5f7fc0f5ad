"""Tables: columns and cells as values, for one template macro to draw. Refuses to know what they hold."""

from typing import Literal, NamedTuple

from limbeck.stages.report.wording import NOT_MEASURED


class Column(NamedTuple):
    """A heading; numbers are set right-aligned, the head column names its row."""

    title: str
    kind: Literal["head", "number", "text", "code"] = "number"


class Cell(NamedTuple):
    """What a cell says, and small print below it; both may hold several lines."""

    main: str
    note: str = ""


class Table(NamedTuple):
    """Every row has one cell a column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


EMPTY = Cell(NOT_MEASURED)
