"""Report: one self-contained HTML page that says whether a run worked, by how much, and how to repeat it.

Reads: the files of a run folder: recipe, verdict, manifests, metrics, held-out prompts, replies and judgements.
Writes: `report.html`, one page with no reference to anything outside itself, and `table.md`, its first table to paste.
Start reading at: `run`, then `page.render`; `gather.py` says what is read, `safe.py` why hostile replies stay harmless.
`compare` sets several runs side by side on a page of the same kind; `several.py` says what it holds.
"""

from collections.abc import Mapping
from pathlib import Path

from limbeck.errors import InputError
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.stages.report.compare_page import render_comparison
from limbeck.stages.report.gather import gather
from limbeck.stages.report.page import render, render_table
from limbeck.store import write_text

__all__ = ["REPORT", "TABLE", "compare", "run"]

REPORT = "report.html"
TABLE = "table.md"


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path) -> StageResult:
    """Write `out/report.html` and `out/table.md` from the run folder `inputs["run"]`; what it lacks, the page says.

    Raises:
        InputError: where the run folder holds no verdict, or a file of it is malformed.
        RunFolderError: where a manifest is damaged.
    """
    gathered = gather(inputs["run"], recipe)
    html = render(gathered)
    write_text(out / REPORT, html)
    write_text(out / TABLE, render_table(gathered))
    replies = sum(len(answers.replies) for answers in gathered.answers.values())
    return StageResult(
        counts_in={"models": len(gathered.verdict.scores), "prompts": len(gathered.prompts), "replies": replies},
        counts_out={"pages": 1},
        facts={"bytes": len(html.encode()), "not_found": [gap.path for gap in gathered.gaps]},
    )


def compare(recipes: Mapping[Path, Recipe], page: Path) -> None:
    """Write a page of several runs, by their folders with their recipes, in the order given.

    Raises:
        InputError: where fewer than two runs are named, one holds no verdict, or a file is malformed.
        RunFolderError: where a manifest is damaged.
    """
    if len(recipes) < 2:
        raise InputError(f"a comparison needs two runs or more, and {len(recipes)} is named")
    names = _names(tuple(recipes))
    runs = {names[folder]: gather(folder, recipe, answers=False) for folder, recipe in recipes.items()}
    write_text(page, render_comparison(runs))


def _names(folders: tuple[Path, ...]) -> dict[Path, str]:
    """The last part of each path; as many more as are needed to tell all apart."""
    whole = [folder.resolve().parts for folder in folders]
    length = next(
        (size for size in range(1, max(map(len, whole))) if len({parts[-size:] for parts in whole}) == len(whole)),
        max(map(len, whole)),
    )
    return {folder: "/".join(parts[-length:]) for folder, parts in zip(folders, whole, strict=True)}
