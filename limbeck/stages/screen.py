"""Pairs to kept pairs: drop what would teach nothing, teach the wrong thing, or leak the evaluation. First reason wins.

Reads: KIND (Pair) for every kind, and evaluation_NAME (PromptRow) for whatever is held out; where the recipe names a
folder in `screen.embedder`, that folder as embedder, and where it names one in `teach.templates`, that as templates.
Writes: KIND.jsonl (Pair), the kept ones in their order; dropped.jsonl (DroppedPair), the others with their reasons;
where a reward model is trained from a teacher's pairs, judging.jsonl (Pair), kept ones that only it sees.
Start reading at: `run`; the rules are limbeck/screening.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck.apart import of_the_judge, part
from limbeck.console import Meter, meter
from limbeck.errors import InputError
from limbeck.likeness import PromptIdentity
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import Screen
from limbeck.records import Pair, PromptRow, Record
from limbeck.screening import Judged, Screener, disagreement, solves
from limbeck.store import read_records, write_records
from limbeck.teachers.template_files import Templates

EVALUATION = "evaluation_"
EMBEDDER = "embedder"
JUDGING = "judging.jsonl"
TEMPLATES = "templates"
_TOGETHER = 512  # pairs whose prompts are embedded at once; progress moves on between them


class DroppedPair(Record):
    """A pair that was dropped, and the first reason for it."""

    id: str
    kind: str
    reason: str


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path) -> StageResult:
    """Screen every kind of pair in `inputs`.

    Raises:
        InputError: an input file, or a template, is not what it should be.
        RecipeError, ModelError: there is no such embedder, or it cannot be loaded.
    """
    rows = (
        row for name, path in inputs.items() if name.startswith(EVALUATION) for row in read_records(path, PromptRow)
    )
    templates = Templates(inputs.get(TEMPLATES))
    templates.check()
    screener = Screener(recipe.screen, rows, templates.texts())
    kinds = [name for name in inputs if name not in {EMBEDDER, TEMPLATES} and not name.startswith(EVALUATION)]
    pairs = {kind: read_records(inputs[kind], Pair) for kind in kinds}
    with meter("screen", sum(map(len, pairs.values())), "pairs") as progress:
        judged = {kind: _judge(rows, screener, progress) for kind, rows in pairs.items()}
    kept = {kind: [verdict for verdict in verdicts if not verdict.reason] for kind, verdicts in judged.items()}
    dropped = [
        DroppedPair(id=verdict.pair.id, kind=kind, reason=verdict.reason)
        for kind, verdicts in judged.items()
        for verdict in verdicts
        if verdict.reason
    ]
    left = {kind: [verdict.pair for verdict in verdicts] for kind, verdicts in kept.items()}
    aside = _prompts_set_aside(recipe, left)
    parted = {kind: part(rows, aside) for kind, rows in left.items()}
    for kind, one in parted.items():
        write_records(out / f"{kind}.jsonl", one.rest)
    write_records(out / "dropped.jsonl", dropped)
    for_judge = [pair for one in parted.values() for pair in one.aside]
    if aside:
        write_records(out / JUDGING, for_judge)
    return StageResult(
        counts_in={kind: len(rows) for kind, rows in pairs.items()},
        counts_out={kind: len(one.rest) for kind, one in parted.items()}
        | ({"for_the_judge": len(for_judge)} if aside else {}),
        drops=dict(sorted(Counter(f"{drop.kind}: {drop.reason}" for drop in dropped).items())),
        facts=_facts(recipe.screen, kept),
    )


def _prompts_set_aside(recipe: Recipe, kept: Mapping[str, Sequence[Pair]]) -> set[PromptIdentity]:
    """Prompts whose pairs only the judge sees; three at least, where there are to be any."""
    chosen = of_the_judge(recipe, kept)
    if len(chosen) < 3 and any(map(recipe.judging_pairs, recipe.pair_kinds())):
        number = sum(map(len, kept.values()))
        raise InputError(f"{number} pairs were kept, too few to set some aside for the judge: let the teacher write "
                         "more, or name a reward model as judges.local.model")  # fmt: skip
    return chosen


def _judge(pairs: Sequence[Pair], screener: Screener, progress: Meter) -> list[Judged]:
    screening = screener.start()
    judged = []
    for start in range(0, len(pairs), _TOGETHER):
        some = pairs[start : start + _TOGETHER]
        screening.prepare(some)
        for pair in some:
            judged.append(screening.judge(pair))
            progress.advance()
    return judged


def _facts(rules: Screen, kept: Mapping[str, Sequence[Judged]]) -> dict[str, int | dict[str, int]]:
    """What was done to pairs that were kept, and which of the rules had nothing to say of them."""
    facts: dict[str, int | dict[str, int]] = {"kept_despite_verifier": 0}
    if rules.on_verifier_disagreement == "keep":
        despite = [verdict for left in kept.values() for verdict in left if disagreement(verdict.pair, solves)]
        facts["kept_despite_verifier"] = len(despite)
    if rules.on_verifier_disagreement == "swap":
        facts["swapped"] = {kind: sum(verdict.swapped for verdict in left) for kind, left in kept.items()}
    if rules.margin_band is not None:
        facts["kept_without_margin"] = {
            kind: sum("margin" not in verdict.pair.scores for verdict in left) for kind, left in kept.items()
        }
    return facts
