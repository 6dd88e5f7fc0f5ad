"""Runs as a whole, for the command line: carry a recipe out and show what came of it."""

from pathlib import Path

from limbeck import conductor, pipeline
from limbeck.console import show
from limbeck.lm.names import model_folder
from limbeck.recipe import Recipe
from limbeck.summary import show_verdict


def carry_out(recipe: Recipe, folder: Path, until: str | None) -> None:
    """Run a recipe and print what came of it."""
    from limbeck.stages.corpus.sources import see_there
    from limbeck.stages.report import REPORT

    folder = folder.expanduser()
    pipeline.check(recipe)
    for dataset in recipe.corpus.sources():  # before a model is fetched
        see_there(dataset)
    conductor.run(recipe, model_folder(recipe.model.student), folder, until)
    if until is None:
        show_verdict(folder / "verdict" / "verdict.json")
        show(f"Report: {(folder / 'report' / REPORT).resolve()}")
