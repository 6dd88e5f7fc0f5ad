"""Recipes on disk: TOML in, a typed recipe out, overrides applied, every mistake named in one sentence."""

import difflib
import tomllib
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError

from limbeck.errors import RecipeError
from limbeck.recipe import Recipe
from limbeck.store import first_problem, write_text


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a TOML recipe and apply `section.field=value` overrides (values are TOML, bare words are strings).

    Raises:
        RecipeError: naming the file, the field, what is wrong and what would be right.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise RecipeError(f"{path} does not exist; `limbeck init` writes a recipe to start from") from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not valid UTF-8 text") from error
    except (ValueError, RecursionError) as error:  # also of a number of thousands of digits, and of too many brackets
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    return parse_recipe(data, where=str(path), overrides=overrides)


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"--set {override!r}: expected section.field=value, for instance dpo.beta=0.2")
    target = data
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise RecipeError(f"--set {override!r}: {part!r} is not a section")
    try:
        target[parts[-1]] = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        target[parts[-1]] = text


def parse_recipe(data: dict[str, Any], where: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """Validate a recipe's data, overrides applied; `where` names it in errors.

    Raises:
        RecipeError: for the first thing that is wrong.
    """
    for override in overrides:
        _apply(data, override)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        detail = error.errors()[0]
        location = [str(part) for part in detail["loc"]]
        where = _given_by(location, overrides) or where
        if detail["type"] == "extra_forbidden":
            raise RecipeError(f"{where}: unknown key {'.'.join(location)!r}{_nearest(location)}") from None
        if not location:
            raise RecipeError(f"{where}: {detail['msg'].removeprefix('Value error, ')}") from None
        # What is refused of these may be a password or a key.
        secret = location[-1] in {"base_url", "api_key_env", "extra"}
        found = "" if detail["type"] == "missing" or secret else f" (found {detail['input']!r:.80})"
        raise RecipeError(f"{where}: {first_problem(error).replace('value error, ', '')}{found}") from None


def _given_by(location: list[str], overrides: tuple[str, ...]) -> str | None:
    """The override that says what stands at `location`, where one does: the last of several."""
    for override in reversed(overrides):
        name = override.partition("=")[0].strip()  # not the value, which may be a key that is to be refused unseen
        key = name.split(".")
        if location and (location[: len(key)] == key or key[: len(location)] == location):
            return f"--set {name}"
    return None


def _nearest(location: list[str]) -> str:
    known = sorted(_known_keys(Recipe))
    *section, key = location
    if section[:-1] in (["arms"], ["servers"], ["published", "table"]):
        section = section[:-1]  # the last part is the arm's or the model's own name
    siblings = [name.rsplit(".", 1)[-1] for name in known if name.rpartition(".")[0] == ".".join(section)]
    for pool in (siblings, known):
        match = difflib.get_close_matches(key, pool, n=1, cutoff=0.6)
        if match:
            return f"; did you mean {match[0]!r}?"
    return f"; known here: {', '.join(siblings)}" if siblings else ""


def _known_keys(section: type[BaseModel], prefix: str = "") -> set[str]:
    keys = set()
    for name, field in section.model_fields.items():
        keys.add(prefix + name)
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys |= _known_keys(kind, f"{prefix}{name}.")
    return keys


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe, overrides included, every field spelled out, as TOML that `load_recipe` reads back."""
    write_text(path, tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True)))


def packaged_recipe(name: str) -> Path:
    """The path of a recipe that comes with limbeck: inside the installed package, or in a source checkout.

    Raises:
        RecipeError: where there is none of that name.
    """
    package = Path(__file__).parent.parent
    for folder in (package / "recipes", package.parent / "recipes"):
        path = folder / f"{name}.toml"
        if path.is_file():
            return path
    raise RecipeError(f"no recipe {name!r} comes with this installation of limbeck")
