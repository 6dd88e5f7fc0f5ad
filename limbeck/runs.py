"""Runs as a whole, for the command line: whose run a folder is, carry it out and show it."""

from pathlib import Path

from limbeck import pipeline
from limbeck.console import results
from limbeck.errors import RunFolderError
from limbeck.lm.names import model_folder
from limbeck.recipe import Recipe
from limbeck.recipe_file import load_recipe
from limbeck.summary import show_verdict


def recipe_of(folder: Path) -> Recipe:
    """The recipe that a run folder belongs to.

    Raises:
        RunFolderError: where the folder holds no run.
    """
    path = folder / pipeline.RECIPE_FILE
    if not path.is_file():
        raise RunFolderError(f"{folder} is no run folder: it holds no {pipeline.RECIPE_FILE}")
    return load_recipe(path)


def carry_out(recipe: Recipe, folder: Path, until: str | None) -> None:
    """Run a recipe and print what came of it."""
    from limbeck.stages.report import REPORT

    folder = folder.expanduser()
    pipeline.check(recipe)
    pipeline.run(recipe, model_folder(recipe.model.student), folder, until)
    if until is None:
        show_verdict(folder / "verdict" / "verdict.json")
        results.print(f"Report: {(folder / 'report' / REPORT).resolve()}", markup=False, soft_wrap=True)
