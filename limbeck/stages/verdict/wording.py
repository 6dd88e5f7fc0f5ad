"""The verdict in one sentence: did it work, by how much, how sure, by whose judgement, at what cost."""

from collections.abc import Sequence

from limbeck.recipe import Recipe
from limbeck.recipe.verdict import AGAINST
from limbeck.records import Estimate
from limbeck.records.verdict import Comparison, JudgeCard, ModelScore
from limbeck.stages.verdict.judge_cards import NOT_MEASURED
from limbeck.stages.verdict.models import BASELINE, EXACT, PAIRWISE
from limbeck.statistics import Ties

_TIES: dict[Ties, str] = {"half": "", "loss": " (a tie is no win)"}


def say_verdict(
    scores: Sequence[ModelScore],
    comparisons: Sequence[Comparison],
    recipe: Recipe,
    cards: Sequence[JudgeCard] = (),
    cost_usd: float | None = None,
) -> str:
    """One sentence: from base to SFT, the best arm against SFT, how many arms helped or harmed, and what qualifies it.

    An arm helped only where its corrected p-value is below alpha and its intervals leave no difference out.
    """
    judge = recipe.judged_by()[0]
    own = [c for c in comparisons if c.judge == judge and c.split == "test"]
    arms = [c for c in own if c.baseline == BASELINE and c.candidate in recipe.arms]
    parts = [_say_sft(scores, recipe)] if judge == EXACT else []
    if arms:
        parts += _say_arms(arms, recipe)
        parts += _say_transfer([c for c in comparisons if c.judge == judge and c.split == "transfer"], recipe)
    elif recipe.arms:
        parts.append(f"no arm could be compared with SFT by {judge}")
    elif not own:
        parts.append(f"no comparison could be made by {judge}")
    elif judge != EXACT:
        parts += [_say_sft_by_wins(c, recipe) for c in own if c.baseline == BASELINE and c.candidate == "base"]
    parts += _say_against([c for c in own if c.baseline == AGAINST], arms, recipe.evaluate.ties)
    parts += _say_judge(cards[0]) if cards and own else []
    if recipe.mined_alone():
        parts.append(f"the judge that found the weak prompts, {judge}, is the only judge of this result")
    if cost_usd is not None:
        parts.append(f"the teacher cost ${cost_usd:,.2f}")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def helped(found: Comparison, alpha: float, ties: Ties = "half") -> bool:
    """Whether a candidate is better beyond chance: corrected p-value, both intervals and the wins all say so.

    With several samples a prompt the interval of the win rate, over rows, and the sign test, over prompts, can differ.
    Where a tie is a loss, a win rate of 1/2 does not mean "no difference": its interval has no say then.
    """
    sure = found.p_value_holm < alpha and found.difference.low > 0 and found.wins > found.losses
    return sure and (ties == "loss" or found.win_rate.low > 0.5)


def harmed(found: Comparison, alpha: float, ties: Ties = "half") -> bool:
    """Whether a candidate is worse beyond chance."""
    sure = found.p_value_holm < alpha and found.difference.high < 0 and found.wins < found.losses
    return sure and (ties == "loss" or found.win_rate.high < 0.5)


def only_by_length(found: Comparison) -> bool:
    """Whether a difference that is beyond chance is not one at equal lengths, or is one the other way round there.

    A verifier does not look at length.
    """
    even = found.length_controlled_win_rate
    if found.judge == EXACT or even is None:
        return False
    return even.low <= 0.5 if found.wins > found.losses else even.high >= 0.5


def _say_arms(arms: Sequence[Comparison], recipe: Recipe) -> list[str]:
    alpha, ties = _alpha(recipe), recipe.evaluate.ties
    better, worse = [c for c in arms if helped(c, alpha, ties)], [c for c in arms if harmed(c, alpha, ties)]
    best = max(arms, key=lambda c: c.gain)
    verb = "improved on" if best in better else "did worse than" if best in worse else "did not clearly improve on"
    parts = [
        f"the best of {len(arms)} {_training(recipe)}arm{'s' if len(arms) > 1 else ''}, {best.candidate}, {verb} "
        f"SFT ({_say_figures(best, ties)})"
    ]
    if best not in better and best not in worse:
        parts += [*_say_doubt(best, alpha, ties), _say_unseen(best, ties)]
    if (best in better or best in worse) and only_by_length(best):
        even = best.length_controlled_win_rate
        parts.append(f"at equal lengths that is not clear: the win rate would be {_say_share(even)}" if even else "")
    if len(arms) > 1:
        parts.append(f"{_helped_words(better)} of {len(arms)} arms helped, {len(worse)} harmed")
    if apart := sorted(set(recipe.arms) - {c.candidate for c in arms}):
        parts.append(f"not compared, since no reply is scored beside SFT's: {', '.join(apart)}")
    return parts


def _helped_words(better: Sequence[Comparison]) -> str:
    """How many arms helped, and how many of these may have done so by the length of their replies alone."""
    doubtful = sum(map(only_by_length, better))
    return f"{len(better)} ({doubtful} of them not clearly at equal lengths)" if doubtful else f"{len(better)}"


def _say_transfer(comparisons: Sequence[Comparison], recipe: Recipe) -> list[str]:
    """The arms that lost, beyond chance, on families never trained on: a gain beside it is not the whole truth."""
    alpha, ties = _alpha(recipe), recipe.evaluate.ties
    lost = [c for c in comparisons if c.baseline == BASELINE and c.candidate in recipe.arms and harmed(c, alpha, ties)]
    told = ", ".join(f"{c.candidate} ({_say_figures(c, ties)})" for c in lost)
    return [f"worse than SFT on families never trained on: {told}"] if lost else []


def _alpha(recipe: Recipe) -> float:
    return round(1 - recipe.evaluate.confidence, 12)  # 1 - 0.95 is a little above 0.05


def _training(recipe: Recipe) -> str:
    """What all arms train by, as a word before `arm`; nothing where they differ."""
    trains = {arm.trains for arm in recipe.arms.values()}
    return f"{trains.pop().upper()} " if len(trains) == 1 else ""


def _held_out(recipe: Recipe) -> str:
    return "validation" if recipe.evaluate.on == "validation" else "held-out"


def _say_sft(scores: Sequence[ModelScore], recipe: Recipe) -> str:
    by_name = {score.model: score.accuracy for score in scores}
    base, sft = by_name.get("base"), by_name.get(BASELINE)
    if base is None or sft is None:
        return "SFT was not measured"
    return f"SFT took accuracy from {_say_share(base)} to {_say_share(sft)} on {sft.n} {_held_out(recipe)} problems"


def _say_sft_by_wins(base: Comparison, recipe: Recipe) -> str:
    """SFT against the base model, from the base's comparison with SFT turned round."""
    rows, won = base.wins + base.ties + base.losses, base.losses
    if recipe.evaluate.ties == "loss":  # the interval is of another share then: the base's wins
        return (
            f"SFT wins {100 * won / rows:.1f} % against the base model, n = {base.win_rate.n}, judged by {base.judge}"
        )
    rate = base.win_rate
    turned = Estimate(estimate=1 - rate.estimate, low=1 - rate.high, high=1 - rate.low, n=rate.n)
    return f"SFT wins {_say_share(turned)} against the base model, n = {turned.n}, judged by {base.judge}"


def _say_against(against: Sequence[Comparison], arms: Sequence[Comparison], ties: Ties) -> list[str]:
    """The win rates of SFT and of the best arm against somebody else's responses."""
    best = max(arms, key=lambda c: c.gain).candidate if arms else None
    rates = {c.candidate: c.win_rate for c in against}
    told = [
        f"{'SFT' if name == BASELINE else name} {_say_share(rates[name])}" for name in (BASELINE, best) if name in rates
    ]
    return [f"win rate against the given responses{_TIES[ties]}: {', '.join(told)}"] if told else []


def _say_judge(card: JudgeCard) -> list[str]:
    """What is known of how often a learned judge is right, where it is too little."""
    if card.judge == EXACT:
        return []
    if card.accuracy is None:
        return [f"{card.judge} is a learned judge, and {NOT_MEASURED}"]
    if card.accuracy.low <= 0.5:
        right = f"right on {_say_share(card.accuracy)} of {card.accuracy.n} held-out pairs"
        return [f"{card.judge} itself, {right}, is not clearly better than chance"]
    if card.longer_is_chosen is not None and _may_be_length(card.accuracy, card.longer_is_chosen, card.beyond_longer):
        return [f"the accuracy of {card.judge} itself, {_say_share(card.accuracy)}, is not clearly above that of "
                f"choosing the longer response, {100 * card.longer_is_chosen.estimate:.1f} %"]  # fmt: skip
    return [f"{card.judge} itself is right on {_say_share(card.accuracy)} of {card.accuracy.n} held-out pairs"]


def _may_be_length(accuracy: Estimate, longer: Estimate, beyond: Estimate | None) -> bool:
    """Whether a judge is not clearly above choosing the longer response: pair by pair where a card has that, as it says
    itself; cards of earlier versions have the two rates alone.
    """
    return accuracy.low <= longer.estimate if beyond is None else beyond.low <= 0


def _say_doubt(found: Comparison, alpha: float, ties: Ties) -> list[str]:
    """Why nothing is claimed although the interval that is told, or the p-value that is not, would let a reader."""
    intervals = [(found.difference, 0.0), (found.win_rate, 0.5)][: 1 if ties == "loss" or found.judge == EXACT else 2]
    apart = any(not interval.low <= even <= interval.high for interval, even in intervals)
    if not apart and found.p_value_holm >= alpha:
        return []
    p = "p < 0.001" if found.p_value_holm < 0.001 else f"p = {found.p_value_holm:.3f}"
    return [f"not all of its figures agree ({p} after correction, {found.wins} replies won and {found.losses} lost)"]


def _say_unseen(found: Comparison, ties: Ties) -> str:
    """What it would have taken for a comparison that shows nothing to show something, at a power of 80 %."""
    exact = found.judge == EXACT
    least = found.minimum_detectable_difference if exact else found.minimum_detectable_win_rate
    if least is None:
        return "too few prompts tell the two apart for any difference to be clear"
    needed = f"difference of {100 * least:.1f} points" if exact else f"win rate {100 * least:.1f} points from 50 %"
    if ties == "loss" and not exact:
        needed = f"lead of {200 * least:.1f} points of wins over losses"
    return f"it takes a true {needed} to be seen here four times out of five"


def _say_share(found: Estimate) -> str:
    return f"{100 * found.estimate:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _say_figures(found: Comparison, ties: Ties) -> str:
    d, rows = found.difference, found.wins + found.ties + found.losses
    n = f"n = {d.n}" + (f" prompts, {rows} replies" if rows > d.n else "")
    n += f", {found.unscored} more unscored" if found.unscored else ""
    if found.judge == EXACT:
        return f"{100 * d.estimate:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}], {n}"
    told = f"win rate{_TIES[ties]} {_say_share(found.win_rate)}, "
    if found.length_controlled_win_rate is not None and not only_by_length(found):  # what does not agree is told apart
        told += f"at equal lengths {_say_share(found.length_controlled_win_rate)}, "
    if found.judge != PAIRWISE:
        told += f"{d.estimate:+.2f} reward [{d.low:+.2f}, {d.high:+.2f}], "
    return f"{told}{n}, judged by {found.judge}"
