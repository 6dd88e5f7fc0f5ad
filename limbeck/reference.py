"""Docs that cannot drift: the recipe's reference and the commands' help, written from the code and checked against it.

`python -m limbeck.reference --write docs` writes them, `--check docs` fails where they differ.
"""

import os
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from limbeck.recipe import Recipe

_WIDTH = "100"


def recipe_reference() -> str:
    """`docs/recipe.md`: every section and field, with default and meaning."""
    lines = [
        "# The recipe",
        "",
        "Written from `limbeck/recipe*.py` by `make docs`. One TOML file describes a whole run; what it leaves out has",
        "the default given here. An unknown key is an error that names the nearest known one.",
    ]
    _section(lines, "", Recipe)
    return "\n".join(lines) + "\n"


def _section(lines: list[str], name: str, section: type[BaseModel]) -> None:
    nested: list[tuple[str, type[BaseModel]]] = []
    rows = []
    for field_name, field in section.model_fields.items():
        inner = _inner(field)
        place = f"{name}.{field_name}" if name else field_name
        if inner is None or field.description:
            rows.append(f"| `{field_name}` | {_default(field)} | {field.description or ''} |")
        if inner is not None:
            nested.append((place, inner))
    title = f"## `[{name}]`" if name else "## At the top"
    doc = " ".join((section.__doc__ or "").split())
    lines += ["", title, "", doc, "", "| field | default | meaning |", "|---|---|---|", *rows]
    seen = set()
    for place, inner in nested:
        if inner not in seen or inner.__name__ not in {"Dataset"}:
            _section(lines, place, inner)
        seen.add(inner)


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


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
