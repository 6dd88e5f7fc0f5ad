"""The report's first table as Markdown that can be pasted (GitHub's tables: a pipe between cells), with intervals.

Refuses to know what a table holds. Signs that Markdown or HTML would act on are escaped.
"""

import re
from collections.abc import Sequence

from limbeck.stages.report.tables import Cell, Table
from limbeck.untrusted import visible

# A bracket is a link's only where another sign follows it: those of intervals stay as they are.
_ACTIVE = re.compile(r"([\\`*_<>|~$&]|\](?=[(\[:]))")


def markdown(title: str, table: Table, caption: str, notes: Sequence[str] = ()) -> str:
    """A heading, the table, its caption and its notes."""
    heads = "| " + " | ".join(escaped(column.title) for column in table.columns) + " |"
    rule = "|" + "|".join("---:" if column.kind == "number" else "---" for column in table.columns) + "|"
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in table.rows]
    listed = "".join(f"- {escaped(note)}\n" for note in notes)
    body = "\n".join((heads, rule, *rows))
    return f"### {escaped(title)}\n\n{body}\n\n{escaped(caption)}\n" + (f"\n{listed}" if listed else "")


def _cell(cell: Cell) -> str:
    """What the cell says on one line, its small print after it."""
    lines = [cell.main, *cell.note.split("\n")]
    return escaped("; ".join(line for line in lines if line).replace("; [", " [", 1))


def escaped(text: str) -> str:
    """Text that Markdown shows as it is; white space folded, so that it stays in its cell."""
    return " ".join(_ACTIVE.sub(r"\\\1", visible(text)).split())
