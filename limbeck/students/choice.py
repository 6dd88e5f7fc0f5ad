"""Which student a model of the recipe is: on its server where it has one, else the built-in engine."""

from pathlib import Path

from limbeck.errors import ModelError
from limbeck.recipe import Recipe
from limbeck.students.builtin import BuiltinStudent
from limbeck.students.protocol import Student
from limbeck.students.server import ServerStudent


def student_for(name: str, recipe: Recipe, folder: Path | None) -> Student:
    """The model called `name`, whose weights lie in `folder`; a served one can do without.

    Raises:
        ModelError: where there is neither a server nor a folder.
    """
    if name in recipe.servers:
        return ServerStudent(name, recipe.servers[name], folder, recipe.model)
    if folder is None:
        raise ModelError(f"the model {name!r} has neither a folder nor a server (servers.{name})")
    return BuiltinStudent(folder, recipe.model)
