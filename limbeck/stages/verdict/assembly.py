"""The stage's work: every model read, scored, compared with the baseline, and one sentence about it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck.errors import InputError
from limbeck.manifest import StageResult, read_manifest
from limbeck.recipe import Recipe
from limbeck.recipe.verdict import AGAINST
from limbeck.records import PromptRow
from limbeck.records.verdict import Comparison, Verdict
from limbeck.stages.verdict.alarms import look_at_replies
from limbeck.stages.verdict.comparing import compare_all
from limbeck.stages.verdict.judge_cards import agreements, card_of
from limbeck.stages.verdict.models import BASELINE, Asked, Model, asked_of, read_model
from limbeck.stages.verdict.pair_accuracies import pair_accuracies
from limbeck.stages.verdict.scoring import score_model
from limbeck.stages.verdict.strengths import strengths_by
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
    samples = recipe.evaluate.samples_per_prompt
    test, transfer = asked_of(rows["test"], samples), asked_of(rows["transfer"], samples)
    models = _models(recipe, inputs)
    verdict = _verdict(models, test, transfer, recipe, inputs)
    scores = look_at_replies(models, verdict.scores, rows["test"], recipe, out)
    verdict = verdict.model_copy(update={"scores": scores})
    write_json(out / "verdict.json", verdict.model_dump(mode="json"))
    missing = sum(score.missing for score in verdict.scores)
    return StageResult(
        counts_in={"models": len(verdict.scores), "prompts": len(rows["test"]), "transfer": len(rows["transfer"])},
        counts_out={"comparisons": len(verdict.comparisons)},
        drops={"replies asked for and not there": missing} if missing else {},
        facts={"sentence": verdict.sentence},
    )


def _models(recipe: Recipe, inputs: Mapping[str, Path]) -> list[Model]:
    names = {name.rpartition("/")[0] for name in inputs if name.endswith("/replies")}
    order = ["base", BASELINE, *recipe.arms, AGAINST]
    return [read_model(name, inputs, recipe) for name in sorted(names, key=order.index)]


def _verdict(
    models: Sequence[Model], test: Asked, transfer: Asked, recipe: Recipe, inputs: Mapping[str, Path]
) -> Verdict:
    comparisons: list[Comparison] = []
    for judge in recipe.judged_by():
        comparisons += compare_all(models, judge, "test", test, recipe)
        comparisons += compare_all(models, judge, "transfer", transfer, recipe)
    scores = tuple(score_model(model, test, transfer, recipe) for model in models)
    everything = Asked(test.keys + transfer.keys, test.topics + transfer.topics)
    cards = tuple(card_of(judge, models, everything, recipe, inputs) for judge in recipe.judged_by())
    cost_usd = _cost_usd(inputs)
    return Verdict(
        sentence=_of_round(recipe, say_verdict(scores, comparisons, recipe, cards, cost_usd)),
        confidence=recipe.evaluate.confidence,
        ties=recipe.evaluate.ties,
        cost_usd=cost_usd,
        scores=scores,
        comparisons=tuple(comparisons),
        strengths=tuple(s for judge in recipe.judged_by() for s in strengths_by(judge, models, test, recipe)),
        pair_accuracies=tuple(pair_accuracies(models, recipe.evaluate.confidence)),
        judges=cards,
        agreements=tuple(agreements(models, test, recipe)),
    )


def _of_round(recipe: Recipe, sentence: str) -> str:
    number = recipe.rounds.number
    if number == 1:
        return sentence
    return f"Round {number}, in which SFT stands for the model of round {number - 1}. {sentence}"


def _cost_usd(inputs: Mapping[str, Path]) -> float | None:
    """What units that pay somebody say they cost; None where none does, or a price is not known."""
    manifests = [read_manifest(path.parent) for name, path in inputs.items() if name.startswith("paid/")]
    costs = [manifest.result.money_usd for manifest in manifests if manifest is not None]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None
