"""All models on one scale by one judge, from who beats whom on the same prompts (Bradley and Terry 1952)."""

from collections.abc import Sequence

from scipy import special

from limbeck import seeds
from limbeck.recipe import Recipe
from limbeck.records import Estimate
from limbeck.records.verdict import Strength
from limbeck.stages.verdict.models import BASELINE, PAIRWISE, Asked, Model, scores_of
from limbeck.statistics import bradley_terry


def strengths_by(judge: str, models: Sequence[Model], asked: Asked, recipe: Recipe) -> list[Strength]:
    """Every model's strength against SFT, arms, base and somebody else's responses fitted together.

    Empty for a pairwise judge, which compares models with SFT alone: its strengths would say its win rates again. A
    model that shares no scored row with SFT is left out.
    """
    columns = {model.name: scores_of(model, judge, asked) for model in models}
    zero = columns.get(BASELINE, [])
    joined = {
        name: scores
        for name, scores in columns.items()
        if any(one is not None and other is not None for one, other in zip(zero, scores, strict=True))
    }
    if judge == PAIRWISE or len(joined) < 2:
        return []
    prompts = asked.prompts
    fitted = bradley_terry(
        joined,
        baseline=BASELINE,
        seed=seeds.derive(recipe.seed, "strengths", judge),
        clusters=prompts if len(set(prompts)) < len(prompts) else None,
        confidence=recipe.evaluate.confidence,
    )
    found = []
    for strength in fitted.strengths:
        behind = {p for p, score in zip(prompts, joined[strength.arm], strict=True) if score is not None}
        ends = (strength.log_odds, strength.low, strength.high)
        estimates = [_estimate(ends, len(behind)), _estimate([float(special.expit(end)) for end in ends], len(behind))]
        found.append(Strength(model=strength.arm, judge=judge, log_odds=estimates[0], win_rate=estimates[1]))
    return found


def _estimate(ends: Sequence[float], n: int) -> Estimate:
    estimate, low, high = ends
    return Estimate(estimate=estimate, low=low, high=high, n=n)
