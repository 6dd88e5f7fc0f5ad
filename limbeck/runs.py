"""Runs as a whole, for the command line: carry a recipe out and show what came of it."""

from pathlib import Path

from limbeck import conductor, pipeline
from limbeck.console import show
from limbeck.lm.names import model_folder
from limbeck.recipe import Recipe
from limbeck.summary import show_verdict


def carry_out(recipe: Recipe, folder: Path, until: str | None) -> None:
    """Run a recipe and print what came of it."""
    from limbeck.stages.report import REPORT

    folder = folder.expanduser()
    pipeline.check(recipe)
    conductor.run(recipe, model_folder(recipe.model.student), folder, until)
    if until is None:
        show_verdict(folder / "verdict" / "verdict.json")
        show(f"Report: {(folder / 'report' / REPORT).resolve()}")


def plan_run(recipe: Recipe, folder: Path, until: str | None) -> None:
    """Print what a run would take; nothing is sent, fetched or written into the run folder."""
    from limbeck.planning.assembly import plan_of
    from limbeck.planning.show import show_plan

    show_plan(plan_of(recipe, folder.expanduser(), until))
