"""`limbeck audit`: what pairs are like, before anything is trained on them. Parse, call, print."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from limbeck.alone import pairs_input, prompts_input, recipe_for, run_alone
from limbeck.console import results
from limbeck.errors import AuditError
from limbeck.records_audit import Audit
from limbeck.store import read_json

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
    """Measure pairs before training on them: shortcuts, variety, coverage; alarms say what to do."""
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
    """Print the tables of an audit, then its alarms."""
    from limbeck.stages.report.pairs import coverage_table, shortcut_table, variety_table

    found = Audit.model_validate(read_json(path))
    for make in (shortcut_table, variety_table, coverage_table):
        made = make(found)
        if not made.rows:
            continue
        table = Table()
        for column in made.columns:
            table.add_column(column.title, justify="right" if column.kind == "number" else "left")
        for row in made.rows:
            table.add_row(*(escape("\n".join(filter(None, cell))) for cell in row))
        results.print(table)
    for alarm in found.alarms:
        results.print(f"ALARM {alarm.sentence} {alarm.advice} ({alarm.field})", markup=False, soft_wrap=True)
    if not found.alarms:
        results.print("No alarm.", markup=False)
    results.print(str(path.resolve()), markup=False, soft_wrap=True)
