"""Runs as a whole, for the command line: carry a recipe out and show what came of it."""

from pathlib import Path

from limbeck import conductor, pipeline
from limbeck.commands.rounds_table import show_rounds
from limbeck.commands.summary import show_verdict
from limbeck.commands.verdict_tables import show_published
from limbeck.console import show
from limbeck.lm.names import model_folder
from limbeck.recipe import Recipe
from limbeck.records.verdict import Verdict
from limbeck.round_folders import ROUNDS
from limbeck.rounds import FILE as ROUNDS_FILE
from limbeck.store import read_record
from limbeck.units.verdict import steps_of


def carry_out(recipe: Recipe, folder: Path, until: str | None) -> None:
    """Run a recipe and print what came of it."""
    from limbeck.stages.corpus.sources import see_there

    folder = folder.expanduser()
    pipeline.check(recipe)
    for dataset in recipe.corpus.sources():  # before a model is fetched
        see_there(dataset)
    conductor.run(recipe, model_folder(recipe.model.student), folder, until)
    if until is None:
        show_end(recipe, folder)


def show_end(recipe: Recipe, folder: Path) -> None:
    """Print a finished run's verdict, published figures beside its own, and where its report is."""
    from limbeck.stages.report import REPORT, TABLE
    from limbeck.stages.report.published import rows_of

    path = folder / steps_of(recipe).verdict / "verdict.json"
    show_verdict(path)
    if recipe.evaluate.on == "validation":
        return
    if recipe.rounds.count > 1:
        show_rounds(folder / ROUNDS / ROUNDS_FILE)
    beside = rows_of(recipe, read_record(path, Verdict))
    if beside is not None:
        show_published(beside)
        show(f"As Markdown: {(folder / 'report' / TABLE).resolve()}")
    show(f"Report: {(folder / 'report' / REPORT).resolve()}")


def plan_run(recipe: Recipe, folder: Path, until: str | None) -> None:
    """Print what a run would take; nothing is sent, fetched or written into the run folder."""
    from limbeck.planning.assembly import plan_of
    from limbeck.planning.show import show_plan

    show_plan(plan_of(recipe, folder.expanduser(), until))
