"""`limbeck audit`: what pairs are like, before anything is trained on them. Parse, call, print."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from limbeck.commands.alone import pairs_input, prompts_input, recipe_for, run_alone
from limbeck.console import literal, results, show
from limbeck.errors import AuditError
from limbeck.records.audit import Audit
from limbeck.store import read_record

if TYPE_CHECKING:
    from limbeck.stages.report.tables import Table as Made

Set = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override a setting.")]


def audit(
    pairs: Annotated[Path, typer.Argument(help="Preference pairs, in any format that limbeck reads.")],
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts that those of the pairs should cover, for instance human ones.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to work in.")] = Path("out/audit"),
    seed: Annotated[int, typer.Option(help="Every random choice derives from it.")] = 1,
    overrides: Set = None,
) -> None:
    """Measure pairs before training: shortcuts, variety, coverage.

    Past a threshold it raises an alarm that says what to do.
    """
    data: dict[str, Any] = {"seed": seed}
    inputs = pairs_input(data, pairs, "pairs")
    if prompts is not None:
        inputs |= prompts_input(data, prompts, "anchor/given")
    recipe = recipe_for("audit", data, tuple(overrides or ()))
    try:
        run_alone(recipe, "audit", inputs, out)
    except AuditError:
        show_audit(out / "audit" / "audit.json")
        raise
    show_audit(out / "audit" / "audit.json")


def show_audit(path: Path) -> None:
    """Print the tables of an audit, and which of its figures raise an alarm.

    Raises:
        InputError: the file is missing or damaged.
    """
    from limbeck.stages.report.pairs import coverage_table, shortcut_table, variety_table

    found = read_record(path, Audit)
    _show(_turned(shortcut_table(found)))
    _show(_lines(variety_table(found)))
    if any(each.coverage for each in found.audits):
        _show(_turned(coverage_table(found)))
    for alarm in found.alarms:
        show(f"ALARM {alarm.about}: {alarm.field} = {alarm.threshold:g}, and it is {alarm.value:.2f}")
    if not found.alarms:
        show("No alarm.")
    show(str(path.parent.resolve()))


def _lines(made: "Made") -> list[list[str]]:
    rows = [["\n".join(filter(None, cell)) for cell in row] for row in made.rows]
    return [[column.title for column in made.columns], *rows]


def _turned(made: "Made") -> list[list[str]]:
    """A column a set of pairs: a terminal is narrow, and a file is one set."""
    return [list(column) for column in zip(*_lines(made), strict=True)]


def _show(lines: list[list[str]]) -> None:
    table = Table(box=box.SIMPLE)
    for place, title in enumerate(lines[0]):
        table.add_column(literal(title), justify="right" if place else "left", overflow="fold")
    for line in lines[1:]:
        table.add_row(*map(literal, line))
    results.print(table)
