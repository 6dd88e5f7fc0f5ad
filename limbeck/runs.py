"""Runs as a whole, for the command line: whose run a folder is, where its base model lies, carry it out and show it."""

from pathlib import Path

from limbeck import pipeline
from limbeck.console import results
from limbeck.errors import RunFolderError
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


def base_folder(name: str) -> Path:
    """The folder of a model by name: fetched on first use. torch is imported only where a hub id has to be resolved."""
    folder = Path(name).expanduser()
    if folder.is_dir() and (folder / "config.json").is_file():
        return folder.resolve()
    from limbeck.lm.pull import KNOWN_MODELS, pull

    if name in KNOWN_MODELS:
        return pull(name).resolve()
    from limbeck.lm.load import model_folder

    return model_folder(name).resolve()


def carry_out(recipe: Recipe, folder: Path, until: str | None) -> None:
    """Run a recipe and print what came of it."""
    from limbeck.stages.report import REPORT

    folder = folder.expanduser()
    pipeline.check(recipe)
    pipeline.run(recipe, base_folder(recipe.model.student), folder, until)
    if until is None:
        show_verdict(folder / "verdict" / "verdict.json")
        results.print(f"Report: {(folder / 'report' / REPORT).resolve()}", markup=False, soft_wrap=True)
