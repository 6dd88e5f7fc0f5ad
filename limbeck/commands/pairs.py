"""The commands about pairs that are there already: look at them, pass them on. Parse, call, print."""

import sys
from itertools import islice
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer

from limbeck import conductor, pipeline
from limbeck.commands.alone import pairs_input, recipe_for, run_alone
from limbeck.console import results, show
from limbeck.errors import InputError, RunFolderError
from limbeck.recipe.file import load_recipe
from limbeck.run_folder import RECIPE_FILE, claimed, settled
from limbeck.units.unit import Unit

Set = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override a setting.")]
FIRST = 10


def inspect(
    pairs: Annotated[
        str,
        typer.Argument(
            metavar="PAIRS",
            help="Pairs in any format that limbeck reads, weak.jsonl of `limbeck mine`, or a run folder.",
        ),
    ],
    source: Annotated[str, typer.Option(help="Show only rows of this source (kind of pair).")] = "",
    search: Annotated[str, typer.Option(help="Show only rows that hold this text, whatever its case.")] = "",
    random: Annotated[int | None, typer.Option(metavar="SEED", help="In a random order, drawn by this seed.")] = None,
    first: Annotated[
        int | None, typer.Option(min=1, help=f"Only so many; where it is no terminal, {FIRST} by default.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of a folder laid out as on the hub, or of a hub id.")] = "train",
) -> None:
    """Browse pairs: both answers side by side, differences marked."""
    from limbeck.browse.rows import shown_rows
    from limbeck.browse.session import State, passing
    from limbeck.browse.view import view

    live = sys.stdin.isatty() and results.is_terminal
    rows = shown_rows(pairs, split)
    if random is not None:
        mixed = list(rows)
        Random(random).shuffle(mixed)
        rows = iter(mixed)
    if live:
        from limbeck.browse.terminal import browse

        everything = list(islice(rows, first))
        _see_some(passing(everything, source, search), pairs, source, search)
        browse(everything, results, State(source=source, search=search))
        return
    chosen = list(islice((row for row in rows if passing([row], source, search)), first or FIRST))
    _see_some(chosen, pairs, source, search)
    for number, row in enumerate(chosen, 1):
        results.print(view(row, f"{number}", results.width))
        results.print()


def _see_some(rows: list[Any], pairs: str, source: str, search: str) -> None:
    if not rows:
        asked = [f"{name} {value!r}" for name, value in (("source", source), ("text", search)) if value]
        raise InputError(f"{pairs} holds no rows{' with the ' if asked else ''}{' and the '.join(asked)}")


def export(
    pairs: Annotated[
        Path,
        typer.Argument(metavar="PAIRS", help="Run folder, or preference pairs in any format that limbeck reads."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to work in.")] = Path("out/export"),
    overrides: Set = None,
) -> None:
    """Write pairs as a data set in TRL's format, with a card.

    Parquet with provenance; of a run also the dropped pairs, with their reasons.
    """
    if (pairs / RECIPE_FILE).is_file():
        folder = _export_run(pairs, out.expanduser(), tuple(overrides or ()))
    else:
        data: dict[str, Any] = {"mix": {"heldout_pairs": 0}}
        inputs = pairs_input(data, pairs, "kept_pairs")
        folder = run_alone(recipe_for("export", data, tuple(overrides or ())), "export", inputs, out)
    show(str(folder.resolve()))


def _export_run(run: Path, out: Path, overrides: tuple[str, ...]) -> Path:
    if out.expanduser().resolve() == run.expanduser().resolve():
        raise RunFolderError(f"--out {out} is the run itself, whose recipe and own export would be written over; give "
                             "another folder")  # fmt: skip
    recipe = load_recipe(run / RECIPE_FILE, overrides)
    found = [unit for unit in pipeline.units(recipe, run) if unit.stage == "export"]
    inputs = {name: (run / path).resolve() for unit in found for name, path in unit.inputs.items()}
    missing = [path for path in inputs.values() if not path.exists()]
    if not found or missing:
        why = f"{missing[0]} is missing" if missing else "its recipe has no arm"
        raise RunFolderError(f"{run} holds no screened pairs to export: {why}; `limbeck run` makes them")
    recipe = settled(recipe, run)
    with claimed(out, recipe):
        conductor.run_unit(Unit("export", inputs, found[0].part), recipe, out)
    return out / "export"


def add_pair_commands(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (inspect, export):
        app.command(rich_help_panel="Pairs that are there already")(command)
