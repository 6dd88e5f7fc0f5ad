"""Two models on the same prompts: difference, win rate, what could be chance and what could not have been seen."""

from collections.abc import Sequence

from limbeck import seeds
from limbeck.recipe import Recipe
from limbeck.records import Estimate, HeldOutSplit, PromptRow
from limbeck.records_verdict import Comparison
from limbeck.stages.verdict.models import BASELINE, Model, scores_of
from limbeck.statistics import (
    holm,
    mcnemar_exact,
    minimum_detectable_difference,
    paired_difference,
    sign_test,
    win_rate,
)


def compare_all(
    models: Sequence[Model], judge: str, split: HeldOutSplit, rows: Sequence[PromptRow], recipe: Recipe
) -> list[Comparison]:
    """Every model against the baseline on the same prompts; p-values of the arms are corrected together (Holm 1979).

    The base model is compared as well, but it is no arm: it does not take part in the correction.
    """
    baseline = next(model for model in models if model.name == BASELINE)
    others = [model for model in models if model.name != BASELINE]
    found = [c for model in others if (c := _compare(baseline, model, judge, split, rows, recipe)) is not None]
    arms = [comparison for comparison in found if comparison.candidate in recipe.arms]
    corrected = dict(zip((c.candidate for c in arms), holm([comparison.p_value for comparison in arms]), strict=True))
    return [c.model_copy(update={"p_value_holm": corrected.get(c.candidate, c.p_value)}) for c in found]


def _compare(
    baseline: Model, candidate: Model, judge: str, split: HeldOutSplit, rows: Sequence[PromptRow], recipe: Recipe
) -> Comparison | None:
    before, after = scores_of(baseline, judge, rows), scores_of(candidate, judge, rows)
    both = [(b, a) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    if not both:
        return None
    b, a = [x for x, _ in both], [y for _, y in both]
    confidence = recipe.evaluate.confidence
    seed = seeds.derive(recipe.seed, "verdict", judge, split)
    difference = paired_difference(b, a, seed=seed, confidence=confidence)
    wins = win_rate(before, after, seed=seed, ties=recipe.evaluate.ties, confidence=confidence)
    exact = judge == "verifier"
    p_value = mcnemar_exact(b, a).p_value if exact else sign_test(b, a).p_value
    return Comparison(
        candidate=candidate.name,
        baseline=baseline.name,
        judge=judge,
        split=split,
        difference=Estimate(
            estimate=difference.estimate, low=difference.low, high=difference.high, n=difference.num_prompts
        ),
        win_rate=Estimate(estimate=wins.estimate, low=wins.low, high=wins.high, n=wins.num_prompts),
        wins=wins.wins,
        ties=wins.ties,
        losses=wins.losses,
        unscored=wins.unscored,
        p_value=p_value,
        p_value_holm=p_value,
        minimum_detectable_difference=minimum_detectable_difference(
            len(both), **_spread(b, a, exact=exact), alpha=(1 - confidence) / max(len(recipe.arms), 1)
        ),
    )


def _spread(b: Sequence[float], a: Sequence[float], *, exact: bool) -> dict[str, float]:
    differences = [y - x for x, y in zip(b, a, strict=True)]
    if exact:
        return {"discordant_rate": sum(d != 0 for d in differences) / len(differences)}
    mean = sum(differences) / len(differences)
    return {"sd": (sum((d - mean) ** 2 for d in differences) / max(len(differences) - 1, 1)) ** 0.5}
