"""One item on the screen: prompt above, answers side by side (one below the other where it is narrow), notes below.

Every text goes through `visible` and stands in a `Text`, which rich never reads as markup.
"""

from collections.abc import Sequence
from itertools import zip_longest

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from limbeck.browse.differences import Marks, differences
from limbeck.browse.rows import Note, Shown, Side
from limbeck.records import Message
from limbeck.untrusted import one_line, visible

NARROW_COLUMNS = 70  # below this, two columns hold too few words a line
_STYLES = ("green", "red")
_TITLE_CHARACTERS = 80


def view(shown: Shown, heading: str, columns: int) -> RenderableType:
    """What is printed for one item on a terminal of so many columns; `heading` is limbeck's own text."""
    sides = (shown.left, shown.right)
    title = Text(f"{heading}  ", "bold")
    if not shown.id.startswith(f"{shown.source}/"):  # most ids begin with it
        title.append(f"{one_line(shown.source, _TITLE_CHARACTERS)}  ", "cyan")
    title.append(one_line(shown.id, _TITLE_CHARACTERS), "cyan")
    parts: list[RenderableType] = [Rule(title, align="left", style="dim"), _prompt(shown.prompt)]
    first = [side.answers[0] if side.answers else None for side in sides]
    both = [visible(text) for text in first if text is not None]
    marks = differences(*both) if len(both) == 2 else Marks((), (), alike=False)
    parts.append(_stacked(sides, marks) if columns < NARROW_COLUMNS else _side_by_side(sides, marks))
    notes = [*shown.notes]
    if len(both) == 2 and not marks.alike and all(both):
        notes.append(Note("differences", "not marked: little is shared, or too much to compare"))
    if notes:
        parts.append(_notes(notes))
    return Group(*parts)


def _prompt(turns: Sequence[Message]) -> Panel:
    text = Text()
    for place, turn in enumerate(turns):
        if len(turns) > 1:
            text.append("\n\n" if place else "").append(f"{turn.role}\n", "bold")
        text.append(visible(turn.content.strip()))
    return Panel(text, title="prompt", title_align="left", border_style="dim", box=box.ROUNDED)


def _side_by_side(sides: Sequence[Side], marks: Marks) -> Table:
    table = Table(expand=True, box=box.ROUNDED, border_style="dim", show_lines=True)
    for side, style in zip(sides, _STYLES, strict=True):
        table.add_column(Text(_title(side), style), ratio=1, overflow="fold")
    for number, answers in enumerate(zip_longest(*(side.answers for side in sides))):
        table.add_row(*(_answer(answer, marks, place, number) for place, answer in enumerate(answers)))
    return table


def _stacked(sides: Sequence[Side], marks: Marks) -> Group:
    panels = []
    for place, side in enumerate(sides):
        title = Text(_title(side), _STYLES[place])
        panels += [
            Panel(_answer(answer, marks, place, number), title=title, title_align="left", border_style="dim")
            for number, answer in enumerate(side.answers)
        ]
    return Group(*panels)


def _title(side: Side) -> str:
    counts = ", ".join(f"{len(answer.split())}" for answer in side.answers)
    return f"{side.title} ({counts} words)" if counts else f"{side.title} (none)"


def _answer(answer: str | None, marks: Marks, place: int, number: int) -> Text:
    """An answer, its differences marked where it is the first of its side: only first ones are compared."""
    if answer is None:
        return Text()
    if not answer.strip():
        return Text("(empty)", "dim italic")
    text = Text(visible(answer), overflow="fold")
    for span in (marks.left, marks.right)[place] if number == 0 else ():
        text.stylize(f"bold {_STYLES[place]}", span.start, span.stop)
    return text


def _notes(notes: Sequence[Note]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(style="dim", ratio=1, overflow="fold")
    for note in notes:
        grid.add_row(Text(visible(note.name)), Text(visible(note.value)))
    return grid
