"""A page as a browser's parser sees it, for tests that need no browser."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from report_fixture import recipe

from limbeck.recipe import Recipe
from limbeck.stages import report

# Void elements of HTML: they have no end tag.
_VOID = {"meta", "input", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """A page as a browser's parser sees it: start tags with attributes, and the text inside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self.tables: list[list[list[str]]] = []  # rows of cells, head cells included
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)
        if tag in self.raw:
            self.raw[tag].append("")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]][-1] += data
        else:
            self.text += data
            if {"td", "th"} & set(self.open):
                self.tables[-1][-1][-1] += data

    @property
    def data(self) -> list[str]:
        """What stands in the blocks of data: the index of the browser of replies, then its texts chunk by chunk."""
        return self.raw["script"][:-1]

    @property
    def index(self) -> dict[str, Any]:
        """The index of the browser of replies."""
        columns: dict[str, Any] = json.loads(self.data[0])
        return columns

    @property
    def texts(self) -> list[dict[str, Any]]:
        """The texts of every prompt of the browser of replies."""
        return [texts for chunk in self.data[1:] for texts in json.loads(chunk)]

    @property
    def code(self) -> str:
        """The page's own script."""
        return self.raw["script"][-1]


def make(run_folder: Path, with_recipe: Recipe | None = None) -> str:
    """Write the report of a run folder and return its text."""
    report.run(with_recipe or recipe(), {"run": run_folder}, run_folder / "report")
    return (run_folder / "report" / "report.html").read_text(encoding="utf-8")
