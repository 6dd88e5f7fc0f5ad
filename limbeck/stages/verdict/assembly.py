"""The stage's work: every model read, scored, compared with the baseline, and one sentence about it."""

from collections.abc import Mapping
from pathlib import Path

from limbeck.errors import InputError
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.records import PromptRow
from limbeck.records_verdict import Comparison, Verdict
from limbeck.stages.verdict.alarms import look_at_replies
from limbeck.stages.verdict.comparing import compare_all
from limbeck.stages.verdict.models import BASELINE, read_model
from limbeck.stages.verdict.scoring import score_model
from limbeck.stages.verdict.wording import say_verdict
from limbeck.store import read_records, write_json


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path) -> StageResult:
    """Score every model, compare each with the baseline, correct for the number of arms, and say it in one sentence.

    Raises:
        InputError: where there is no prompt to judge by, which is an error and not a score of zero.
    """
    rows = {split: read_records(inputs[split], PromptRow) if split in inputs else [] for split in ("test", "transfer")}
    if not rows["test"]:
        raise InputError("no held-out prompt to judge by: ask for corpus.tasks.test or give [[corpus.evaluation]]")
    names = sorted({name.rpartition("/")[0] for name in inputs if name.endswith("/replies")})
    order = ["base", BASELINE, *recipe.arms]
    models = [read_model(name, inputs, recipe) for name in sorted(names, key=order.index)]
    comparisons: list[Comparison] = []
    for judge in recipe.judged_by():
        comparisons += compare_all(models, judge, "test", rows["test"], recipe)
        comparisons += compare_all(models, judge, "transfer", rows["transfer"], recipe)
    scores = tuple(score_model(model, rows["test"], rows["transfer"], recipe) for model in models)
    scores = look_at_replies(models, scores, rows["test"], recipe, out)
    verdict = Verdict(
        sentence=say_verdict(scores, comparisons, recipe),
        confidence=recipe.evaluate.confidence,
        scores=scores,
        comparisons=tuple(comparisons),
    )
    write_json(out / "verdict.json", verdict.model_dump(mode="json"))
    return StageResult(
        counts_in={"models": len(models), "prompts": len(rows["test"]), "transfer": len(rows["transfer"])},
        counts_out={"comparisons": len(comparisons)},
        facts={"sentence": verdict.sentence},
    )
