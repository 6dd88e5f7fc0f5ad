"""The verdict in one sentence."""

from collections.abc import Sequence

from limbeck.recipe import Recipe
from limbeck.records import Estimate
from limbeck.records_verdict import Comparison, ModelScore
from limbeck.stages.verdict.models import BASELINE


def say_verdict(scores: Sequence[ModelScore], comparisons: Sequence[Comparison], recipe: Recipe) -> str:
    """One sentence: from base to SFT, then the best arm against SFT, and how many arms helped or harmed."""
    judge = recipe.judged_by()[0]
    arms = [c for c in comparisons if c.judge == judge and c.split == "test" and c.candidate in recipe.arms]
    parts = [_say_sft(scores)] if judge == "verifier" else []
    helped = [c for c in arms if c.difference.low > 0 and c.p_value_holm < 1 - recipe.evaluate.confidence]
    harmed = [c for c in arms if c.difference.high < 0 and c.p_value_holm < 1 - recipe.evaluate.confidence]
    if arms:
        best = max(arms, key=lambda c: c.difference.estimate)
        verb = "improved on" if best in helped else "did worse than" if best in harmed else "did not clearly improve on"
        parts.append(
            f"the best of {len(arms)} {_training(recipe)}arm{'s' if len(arms) > 1 else ''}, {best.candidate}, {verb} "
            f"SFT ({_say_difference(best)})"
        )
    if len(arms) > 1:
        parts.append(f"{len(helped)} of {len(arms)} arms helped, {len(harmed)} harmed")
    if recipe.mined_alone():
        parts.append(f"the judge that found the weak prompts, {judge}, is the only judge of this result")
    sentence = "; ".join(parts) or "no comparison was asked for"
    return f"{sentence[0].upper()}{sentence[1:]}."


def _training(recipe: Recipe) -> str:
    """What all arms train by, as a word before `arm`; nothing where they differ."""
    trains = {arm.trains for arm in recipe.arms.values()}
    return f"{trains.pop().upper()} " if len(trains) == 1 else ""


def _say_sft(scores: Sequence[ModelScore]) -> str:
    by_name = {score.model: score.accuracy for score in scores}
    base, sft = by_name.get("base"), by_name.get(BASELINE)
    if base is None or sft is None:
        return "SFT was not measured"
    return f"SFT took accuracy from {_say_share(base)} to {_say_share(sft)} on {sft.n} held-out problems"


def _say_share(found: Estimate) -> str:
    return f"{100 * found.estimate:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _say_difference(found: Comparison) -> str:
    scale, unit = (100, "points") if found.judge == "verifier" else (1, "reward")
    d = found.difference
    return f"{scale * d.estimate:+.1f} {unit} [{scale * d.low:+.1f}, {scale * d.high:+.1f}], n = {d.n}"
