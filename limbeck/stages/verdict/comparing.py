"""Every model compared with the baseline, and with somebody else's responses, on the same prompts."""

from collections.abc import Collection, Sequence

from limbeck import seeds
from limbeck.recipe import Recipe
from limbeck.recipe.verdict import AGAINST
from limbeck.records import HeldOutSplit
from limbeck.records.verdict import Comparison
from limbeck.stages.verdict.models import (
    BASELINE,
    EXACT,
    PAIRWISE,
    Asked,
    Model,
    lengths_of,
    preferences_of,
    scores_of,
)
from limbeck.stages.verdict.paired import Named, PairedRows, Terms, compare
from limbeck.statistics import holm


def compare_all(
    models: Sequence[Model], judge: str, split: HeldOutSplit, asked: Asked, recipe: Recipe
) -> list[Comparison]:
    """Every model against SFT, then against somebody else's responses where there are some.

    Each is a family of its own, whose p-values are corrected together (Holm 1979): the arms against SFT, and SFT and
    the arms against the responses. The base model is compared as well, but it is no arm: it does not take part.
    """
    by_name = {model.name: model for model in models}
    arms = [name for name in by_name if name in recipe.arms]
    main = judge == recipe.judged_by()[0] and split == "test"
    found: list[Comparison] = []
    for baseline, family in ((BASELINE, arms), (AGAINST, [BASELINE, *arms])):
        if baseline not in by_name or (judge == PAIRWISE and baseline != BASELINE):
            continue  # a pairwise judge is shown the baseline's replies beside each model's, and no others
        seed = seeds.derive(recipe.seed, "verdict", judge, split)
        compared = []
        for model in models:
            if model.name in (baseline, AGAINST):
                continue
            family_size = len(family) if model.name in family else 1
            terms = Terms(seed, recipe.evaluate.ties, recipe.evaluate.confidence, family_size)
            rows = rows_of(by_name[baseline], model, judge, asked)
            compared.append(compare(rows, Named(model.name, baseline, judge, split), terms, by_topic=main))
        found += corrected([c for c in compared if c is not None], family)
    return found


def corrected(found: Sequence[Comparison], family: Collection[str]) -> list[Comparison]:
    """The comparisons, with the p-values of the candidates in `family` corrected for their number (Holm 1979)."""
    members = [comparison for comparison in found if comparison.candidate in family]
    adjusted = dict(zip((c.candidate for c in members), holm([c.p_value for c in members]), strict=True))
    return [c.model_copy(update={"p_value_holm": adjusted.get(c.candidate, c.p_value)}) for c in found]


def rows_of(baseline: Model, candidate: Model, judge: str, asked: Asked) -> PairedRows:
    """What a judge says of two models, row by row. Of a pairwise judge: 1, 0 or -1 for the candidate, 0 beside it."""
    if judge == PAIRWISE:
        after = preferences_of(candidate, asked)
        before: list[float | None] = [None if points is None else 0.0 for points in after]
    else:
        before, after = scores_of(baseline, judge, asked), scores_of(candidate, judge, asked)
    return PairedRows(
        baseline=before,
        candidate=after,
        baseline_lengths=lengths_of(baseline, asked),
        candidate_lengths=lengths_of(candidate, asked),
        prompts=asked.prompts,
        topics=asked.topics,
        exact=judge == EXACT,
    )
