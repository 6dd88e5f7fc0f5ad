"""Runs as a whole, for the command line: carry a recipe out and show what came of it."""

from pathlib import Path

from limbeck import conductor, pipeline
from limbeck.console import show
from limbeck.lm.names import model_folder
from limbeck.recipe import Recipe
from limbeck.round_folders import ROUNDS
from limbeck.rounds import FILE as ROUNDS_FILE
from limbeck.rounds_table import show_rounds
from limbeck.summary import show_verdict


def carry_out(recipe: Recipe, folder: Path, until: str | None) -> None:
    """Run a recipe and print what came of it."""
    from limbeck.stages.report import REPORT

    folder = folder.expanduser()
    pipeline.check(recipe)
    conductor.run(recipe, model_folder(recipe.model.student), folder, until)
    if until is None:
        show_verdict(folder / "verdict" / "verdict.json")
        if recipe.rounds.count > 1:
            show_rounds(folder / ROUNDS / ROUNDS_FILE)
        show(f"Report: {(folder / 'report' / REPORT).resolve()}")
