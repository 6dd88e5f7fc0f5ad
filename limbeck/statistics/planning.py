"""How many prompts a question needs, and what a number of prompts can show, before anything is known.

Accuracies of two models on the same problems are told apart by the prompts that only one of them solves (the discordant
ones); win rates by the prompts that are no tie. Neither share is known before the run, so a plan gives a range. Several
arms against one baseline share alpha equally (Bonferroni): Holm's correction, which the verdict uses, shows at least as
much. Differences are shares: 0.03 is three points.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from limbeck.errors import InputError
from limbeck.statistics.power import minimum_detectable_difference, prompts_needed
from limbeck.statistics.resampling import check_fraction

Measure = Literal["accuracy", "win_rate"]

# Two models that have nothing in common but an accuracy of a half are discordant on half of the prompts; arms that were
# trained from one model agree on most. A tie rate of 0 is a reward model's; an exact verifier's ties are all prompts
# that are not discordant.
DISCORDANT_RATES = (0.05, 0.1, 0.2, 0.3, 0.5)
TIE_RATES = (0.0, 0.1, 0.3, 0.5)


class Plan(NamedTuple):
    """`num_prompts` prompts show a true `difference` with probability `power`, where the rate is `rate`.

    `difference`: of accuracies, or of the win rate from 1/2. `rate`: the discordant rate, or the tie rate. The one that
    was asked for is None where it cannot be: a difference is at most the discordant rate, and a win rate at most half
    of what is no tie away from 1/2.
    """

    measure: Measure
    rate: float
    num_prompts: int | None
    difference: float | None
    num_arms: int
    power: float
    alpha_per_arm: float


def minimum_detectable_win_rate(n: int, *, tie_rate: float, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """Return how far from 1/2 a true win rate, ties half, must lie for `n` prompts to show it; None where none can be.

    From wins, ties and losses, `tie_rate` is T / (W + T + L). A win rate is 1/2 + (W - L) / 2N, and the sign test of it
    is McNemar's with the ties as concordant: half of the difference that is detectable at the discordant rate 1 - ties.
    With several rows a prompt use `minimum_detectable_difference` with `sd_by_prompt` of the points 1, 1/2, 0.
    """
    found = minimum_detectable_difference(n, discordant_rate=_decided(tie_rate), power=power, alpha=alpha)
    return None if found is None else found / 2


def prompts_for_win_rate(difference: float, *, tie_rate: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Return how many prompts show a true win rate of 1/2 + `difference`; see `minimum_detectable_win_rate`."""
    return prompts_needed(2 * difference, discordant_rate=_decided(tie_rate), power=power, alpha=alpha)


def plan_prompts(
    measure: Measure,
    difference: float,
    *,
    rates: Sequence[float] | None = None,
    num_arms: int = 1,
    power: float = 0.8,
    alpha: float = 0.05,
) -> tuple[Plan, ...]:
    """How many prompts show `difference`, for each of the rates (default: the range above)."""
    each = _alpha_per_arm(alpha, num_arms)
    if not 0.0 < abs(difference) < 1.0:
        raise InputError(f"A difference to detect must lie between 0 and 1 (0.03 is three points), not {difference}.")
    plans = []
    for rate in _rates(measure, rates):
        decided = rate if measure == "accuracy" else _decided(rate)
        share = abs(difference) if measure == "accuracy" else 2 * abs(difference)
        possible = share <= decided
        number = prompts_needed(share, discordant_rate=decided, power=power, alpha=each) if possible else None
        plans.append(Plan(measure, rate, number, difference, num_arms, power, each))
    return tuple(plans)


def plan_detectable(
    measure: Measure,
    num_prompts: int,
    *,
    rates: Sequence[float] | None = None,
    num_arms: int = 1,
    power: float = 0.8,
    alpha: float = 0.05,
) -> tuple[Plan, ...]:
    """The smallest difference that `num_prompts` prompts show, for each of the rates (default: the range above)."""
    each = _alpha_per_arm(alpha, num_arms)
    plans = []
    for rate in _rates(measure, rates):
        if measure == "accuracy":
            found = minimum_detectable_difference(num_prompts, discordant_rate=rate, power=power, alpha=each)
        else:
            found = minimum_detectable_win_rate(num_prompts, tie_rate=rate, power=power, alpha=each)
        plans.append(Plan(measure, rate, num_prompts, found, num_arms, power, each))
    return tuple(plans)


def _decided(tie_rate: float) -> float:
    if not 0.0 <= tie_rate <= 1.0:
        raise InputError(f"tie_rate must lie between 0 and 1, not {tie_rate}.")
    return 1.0 - tie_rate


def _alpha_per_arm(alpha: float, num_arms: int) -> float:
    check_fraction("alpha", alpha)
    if num_arms < 1:
        raise InputError(f"num_arms must be at least 1, not {num_arms}.")
    return alpha / num_arms


def _rates(measure: Measure, rates: Sequence[float] | None) -> Sequence[float]:
    if measure not in ("accuracy", "win_rate"):
        raise InputError(f'measure must be "accuracy" or "win_rate", not {measure!r}.')
    if rates is not None and not len(rates):
        raise InputError("A plan needs at least one rate.")
    return rates if rates is not None else DISCORDANT_RATES if measure == "accuracy" else TIE_RATES
