"""Pairs to kept pairs: drop what would teach nothing, teach the wrong thing, or leak the evaluation. First reason wins.

Reads: KIND (Pair) for every kind, and evaluation_NAME (PromptRow) for whatever is held out.
Writes: KIND.jsonl (Pair), the kept ones in their order; dropped.jsonl (DroppedPair), the others with their reasons.
Start reading at: `run`; the rules are limbeck/screening.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from limbeck.console import meter
from limbeck.likeness import EvaluationPrompts
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.records import Pair, PromptRow, Record
from limbeck.screening import disagreement, screen_pairs, solves
from limbeck.store import read_records, write_records

EVALUATION = "evaluation_"


class DroppedPair(Record):
    """A pair that was dropped, and the first reason for it."""

    id: str
    kind: str
    reason: str


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path) -> StageResult:
    """Screen every kind of pair in `inputs`.

    Raises:
        InputError: an input file is not what it should be.
    """
    evaluation = EvaluationPrompts(
        row for name, path in inputs.items() if name.startswith(EVALUATION) for row in read_records(path, PromptRow)
    )
    pairs = {name: read_records(path, Pair) for name, path in inputs.items() if not name.startswith(EVALUATION)}
    dropped: list[DroppedPair] = []
    kept: dict[str, int] = {}
    despite = 0
    with meter("screen", sum(map(len, pairs.values())), "pairs") as progress:
        for kind, rows in pairs.items():
            reasons = screen_pairs(rows, evaluation, recipe.screen, solves, on_pair=progress.advance)
            judged = list(zip(rows, reasons, strict=True))
            dropped += [DroppedPair(id=pair.id, kind=kind, reason=why) for pair, why in judged if why]
            if recipe.screen.on_verifier_disagreement == "keep":
                despite += sum(1 for pair, why in judged if not why and disagreement(pair, solves))
            kept[kind] = write_records(out / f"{kind}.jsonl", (pair for pair, why in judged if not why))
    write_records(out / "dropped.jsonl", dropped)
    return StageResult(
        counts_in={kind: len(rows) for kind, rows in pairs.items()},
        counts_out=kept,
        drops=dict(sorted(Counter(f"{drop.kind}: {drop.reason}" for drop in dropped).items())),
        facts={"kept_despite_verifier": despite},
    )
