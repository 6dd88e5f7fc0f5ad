"""Report: one self-contained HTML page that says whether a run worked, by how much, and how to repeat it.

Reads: the files of a run folder: recipe, verdict, manifests, metrics, held-out prompts, replies and judgements.
Writes: `report.html`, one page with no reference to anything outside itself.
Start reading at: `run`, then `page.render`; `gather.py` says what is read, `safe.py` why hostile replies stay harmless.
"""

from collections.abc import Mapping
from pathlib import Path

from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.stages.report.gather import gather
from limbeck.stages.report.page import render
from limbeck.store import write_text

__all__ = ["REPORT", "run"]

REPORT = "report.html"


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path) -> StageResult:
    """Write `out/report.html` from the run folder `inputs["run"]`; what the folder lacks, the page says.

    Raises:
        InputError: where the run folder holds no verdict, or a file of it is malformed.
        RunFolderError: where a manifest is damaged.
    """
    gathered = gather(inputs["run"], recipe)
    html = render(gathered)
    write_text(out / REPORT, html)
    replies = sum(len(answers.replies) for answers in gathered.answers.values())
    return StageResult(
        counts_in={"models": len(gathered.verdict.scores), "prompts": len(gathered.prompts), "replies": replies},
        counts_out={"pages": 1},
        facts={"bytes": len(html.encode()), "not_found": [gap.path for gap in gathered.gaps]},
    )
