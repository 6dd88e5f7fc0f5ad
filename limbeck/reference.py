"""Docs that cannot drift: the recipe's reference and the commands' help, written from the code and checked against it.

`python -m limbeck.reference --write docs` writes them, `--check docs` fails where they differ.
"""

import os
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from limbeck.recipe import Recipe

_WIDTH = "100"
_TABLE = "`[{}]`"
_FORMS: dict[Any, str] = {tuple: "`[[{}]]`", list: "`[[{}]]`", dict: "`[{}.NAME]`"}


def recipe_reference() -> str:
    """`docs/recipe.md`: every section and field, with default, choices and meaning."""
    lines = [
        "# The recipe",
        "",
        "Written from `limbeck/recipe/` by `make docs`. One TOML file describes a whole run; what it leaves out has",
        "the default given here. An unknown key is an error that names the nearest known one. Relative paths are",
        "relative to the folder in which a command is called, not to the recipe's.",
        "",
        "`--set SECTION.FIELD=VALUE` overrides a field for one run. The value is TOML, and a bare word a string:",
        "`--set dpo.beta=0.1`, `--set model.device=cpu`, and in quotes for the shell `--set 'track.to=[\"wandb\"]'`,",
        "`--set 'dpo.lora={rank = 32}'`.",
    ]
    _section(lines, "", Recipe, _TABLE)
    return "\n".join(lines) + "\n"


def _section(lines: list[str], name: str, section: type[BaseModel], heading: str) -> None:
    nested: list[tuple[str, type[BaseModel], str]] = []
    rows = []
    for field_name, field in section.model_fields.items():
        inner, form = _inner(field.annotation)
        place = f"{name}.{field_name}" if name else field_name
        if inner is None or field.description:
            rows.append(f"| `{field_name}` | {_default(field)} | {_choices(field)}{field.description or ''} |")
        if inner is not None:
            nested.append((place, inner, form))
    title = f"## {heading.format(name)}" if name else "## At the top"
    doc = " ".join((section.__doc__ or "").split())
    lines += ["", title, "", doc, "", "| field | default | meaning |", "|---|---|---|", *rows]
    for kind in dict.fromkeys(inner for _, inner, _ in nested):
        places = [(place, form) for place, inner, form in nested if inner is kind]
        if kind.__name__ == "Dataset":  # the same words for each
            _section(lines, places[0][0], kind, ", ".join(form.format(place) for place, form in places))
        else:
            for place, form in places:
                _section(lines, place, kind, form)


def _inner(kind: Any) -> tuple[type[BaseModel] | None, str]:
    """The section in a field, and how its heading is written in TOML: a table, a table by name, one of several."""
    form = _FORMS.get(get_origin(kind), _TABLE)
    for each in (kind, *get_args(kind)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each, form
    return None, form


def _choices(field: FieldInfo) -> str:
    """The values that may be chosen from, where the description does not name them all."""
    found = [] if get_origin(field.annotation) is dict else _literals(field.annotation)
    described = field.description or ""
    if all(value == field.default or f"{value}:" in described or f"`{value}`" in described for value in found):
        return ""
    return f"Values: {', '.join(f'`{value}`' for value in found)}. "


def _literals(kind: Any) -> list[Any]:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [value for each in get_args(kind) for value in _literals(each)]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    value: Any = field.default
    if value is None:
        return "(none)"
    if isinstance(value, BaseModel):
        return "see below"
    return (
        f"`{list(value)}`"
        if isinstance(value, tuple)
        else f"`{str(value).lower() if isinstance(value, bool) else value}`"
    )


def command_reference() -> str:
    """`docs/commands.md`: the help of every command, as it is printed."""
    os.environ |= {"COLUMNS": _WIDTH, "TERM": "dumb", "NO_COLOR": "1"}  # before rich looks at the terminal
    from typer.main import get_command
    from typer.testing import CliRunner

    from limbeck.cli import app

    runner = CliRunner()
    parts = ["# The commands\n\nWritten from the code by `make docs`.\n"]
    for words in ([], *_commands(get_command(app))):
        shown = runner.invoke(app, [*words, "--help"], prog_name="limbeck").stdout
        text = "\n".join(line.rstrip() for line in shown.strip().splitlines())
        parts.append(f"## `{' '.join(['limbeck', *words])}`\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _commands(group: Any) -> list[list[str]]:
    """The words of every command that is shown, those inside a group after it."""
    found = []
    for name, command in getattr(group, "commands", {}).items():
        if not command.hidden:
            found += [[name], *([name, *words] for words in _commands(command))]
    return found


PAGES = {"recipe.md": recipe_reference, "commands.md": command_reference}


def main(arguments: list[str]) -> int:
    """Write or check the pages; returns the exit code."""
    if len(arguments) != 2 or arguments[0] not in {"--write", "--check"}:
        sys.stderr.write("usage: python -m limbeck.reference --write|--check FOLDER\n")
        return 2
    folder = Path(arguments[1])
    stale = []
    for name, make in PAGES.items():
        path, text = folder / name, make()
        if arguments[0] == "--write":
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path))
    if stale:
        sys.stderr.write(f"{', '.join(stale)} differ from the code; run `make docs`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
