"""Options that several commands have, and what they do with them."""

from pathlib import Path
from typing import Annotated

import typer

from limbeck.console import show
from limbeck.errors import InputError, RecipeError
from limbeck.lm.names import model_folder
from limbeck.recipe import Recipe

ModelName = Annotated[str, typer.Option("--model", help="Folder, hub id, or a name that `limbeck pull` knows.")]
AskedName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Folder, hub id, or a name that `limbeck pull` knows; may be left out where a server has the model: "
        "--set servers.model.base_url=URL --set servers.model.model=NAME.",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder to work in; an interrupted command resumes there.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override a setting.")]
Seed = Annotated[int, typer.Option(help="Every random choice derives from it.")]
Data = Annotated[list[str], typer.Option("--data", help="File, folder of parquet, or hub id; may be given again.")]


def new_file(path: Path) -> Path:
    """Where a file is to be written, `~` spelled out.

    Raises:
        InputError: where a folder is in its place.
    """
    path = path.expanduser()
    if path.is_dir():
        raise InputError(f"--out {path} is a folder; name the file to write, as in {path / 'FILE'}")
    return path


def done(folder: Path) -> None:
    """Say where the result is."""
    show(str(folder.resolve()))


def asked_model(place: str, model: str | None, recipe: Recipe) -> dict[str, Path]:
    """The input for the model that a command asks: its folder, or none where a server has it."""
    if model is not None:
        return {place: model_folder(model)}
    if recipe.servers:
        return {}
    raise RecipeError(f"limbeck {recipe.name}: give --model, or a server with --set servers.model.base_url=URL and "
                      "--set servers.model.model=NAME")  # fmt: skip


def only_tasks(split: str, count: int) -> dict[str, int]:
    """Built-in problems of one split alone."""
    return dict.fromkeys(("sft", "pool", "fresh", "validation", "test", "transfer"), 0) | {split: count}
