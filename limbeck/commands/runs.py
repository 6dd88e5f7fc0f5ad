"""Runs as a whole, for the command line: carry a recipe out and show what came of it."""

from pathlib import Path

from limbeck import conductor, pipeline
from limbeck.commands.rounds_table import show_rounds
from limbeck.commands.summary import show_verdict
from limbeck.commands.verdict_tables import show_published
from limbeck.console import show
from limbeck.lm.names import model_folder
from limbeck.manifest import IN_PROGRESS
from limbeck.recipe import Recipe
from limbeck.records.verdict import Verdict
from limbeck.round_folders import ROUNDS
from limbeck.rounds import FILE as ROUNDS_FILE
from limbeck.run_folder import recipe_of
from limbeck.store import read_record, write_text
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


def write_report(folder: Path) -> Path:
    """Write a run's report anew; returns its page.

    Where no run has made it yet it is marked as begun: a run makes it anew then, and does not take it for a file of the
    user's, beside which it would refuse to work.
    """
    from limbeck.stages.report import REPORT, TABLE

    place = folder / "report"
    there = {path.name for path in place.iterdir()} if place.is_dir() else set()
    conductor.call_stage("report", recipe_of(folder), {"run": folder}, place, None)
    if there <= {REPORT, TABLE}:
        write_text(place / IN_PROGRESS, "")
    return place / REPORT


def plan_run(recipe: Recipe, folder: Path, until: str | None) -> None:
    """Print what a run would take; nothing is sent, fetched or written into the run folder."""
    from limbeck.planning.assembly import plan_of
    from limbeck.planning.show import show_plan

    show_plan(plan_of(recipe, folder.expanduser(), until))
