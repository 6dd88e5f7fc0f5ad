"""The rules that look at one pair alone, in their order; the first one wins. Pure.

Start reading at: `reason_to_drop`.
"""

from limbeck.likeness import EvaluationPrompts
from limbeck.recipe.pairs import Screen
from limbeck.records import Pair
from limbeck.screening.answers import form_problem
from limbeck.screening.echoes import TemplateEcho, prompt_echo
from limbeck.screening.language import off_language
from limbeck.screening.refusals import refuses
from limbeck.screening.verifier import Solves, disagreement

_TRACES_ONLY = TemplateEcho()


def reason_to_drop(
    pair: Pair,
    evaluation: EvaluationPrompts,
    rules: Screen,
    solves: Solves,
    template_echo: TemplateEcho = _TRACES_ONLY,
) -> str | None:
    """Return the first reason against `pair` by itself, cheapest first: its texts, the evaluation, then the scorer.

    What depends on other pairs (duplicates of all sorts) comes after these (`Screening`), so that a pair that is
    dropped anyway never displaces a good one.
    """
    return (
        form_problem(pair, rules)
        or margin_problem(pair, rules)
        or ("refusal (chosen)" if refuses(pair.chosen) else None)
        or template_echo.reason(pair)
        or prompt_echo(pair)
        or off_language(pair)
        or evaluation.overlap(pair)
        or (None if rules.on_verifier_disagreement == "keep" else disagreement(pair, solves))
    )


def margin_problem(pair: Pair, rules: Screen) -> str | None:
    """Say where a judge's margin lies outside the band; None where it does not, or no judge gave one."""
    margin = pair.scores.get("margin")
    if margin is None or rules.margin_band is None:
        return None
    low, high = rules.margin_band
    if low <= margin <= high:
        return None
    return "margin too large" if margin > high else "margin too small"  # not a number: too small
