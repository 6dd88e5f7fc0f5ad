"""How small a difference a paired comparison can show, and how many prompts it takes to show one.

Normal approximations for a two-sided test; for several arms against one baseline pass `alpha / num_arms`. Refuses to
know what was measured: the spread comes from the caller, as the sd of the per-prompt differences or, for 0/1 outcomes,
as the share of prompts that only one of the two models solves.
"""

import math

from scipy import special

from limbeck.errors import InputError
from limbeck.statistics.resampling import check_fraction


def minimum_detectable_difference(
    n: int,
    *,
    discordant_rate: float | None = None,
    sd: float | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
) -> float | None:
    """Return the smallest true mean(b - a) that `n` prompts show with probability `power`; None where none can be.

    With `sd`: (z_alpha/2 + z_power) sd / sqrt(n) (Cohen 1988, chapter 2). With `discordant_rate`: the `difference` at
    which `prompts_needed` is `n`, in closed form. None where there is no spread to reckon with, or where the answer
    would be more than the discordant rate, which bounds any difference.
    """
    if n < 1:
        raise InputError("No prompts can show no difference: n must be at least 1.")
    z_alpha, z_power = _quantiles(power, alpha)
    spread = _variance(discordant_rate, sd)
    if spread == 0.0:
        return None
    if discordant_rate is None:
        return (z_alpha + z_power) * math.sqrt(spread / n)
    under_root = n + z_power**2 - z_alpha**2
    if under_root < 0:
        return None
    # The larger root of (n + z_power^2) d^2 - 2 z_alpha sqrt(n psi) d + psi (z_alpha^2 - z_power^2) = 0.
    difference = math.sqrt(spread) * (z_alpha * math.sqrt(n) + z_power * math.sqrt(under_root)) / (n + z_power**2)
    return difference if difference <= discordant_rate else None


def prompts_needed(
    difference: float,
    *,
    discordant_rate: float | None = None,
    sd: float | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
) -> int:
    """Return how many prompts show a true mean(b - a) of `difference` with probability `power`.

    With `sd`: ((z_alpha/2 + z_power) sd / d)^2. With `discordant_rate` psi:
    (z_alpha/2 sqrt(psi) + z_power sqrt(psi - d^2))^2 / d^2 (Connor 1987, Biometrics 43, for McNemar's test).
    """
    z_alpha, z_power = _quantiles(power, alpha)
    spread = _variance(discordant_rate, sd)
    if difference == 0.0 or not math.isfinite(difference):
        raise InputError(f"A difference of {difference} needs no finite number of prompts to show.")
    if discordant_rate is not None and abs(difference) > discordant_rate:
        raise InputError(
            f"A difference of {difference} cannot be where only {discordant_rate} of the prompts are discordant."
        )
    spread_if_true = spread if discordant_rate is None else spread - difference**2
    root = (z_alpha * math.sqrt(spread) + z_power * math.sqrt(spread_if_true)) / difference
    return max(1, math.ceil(root**2 - 1e-9))  # 1e-9: rounding must not ask for one prompt more


def _quantiles(power: float, alpha: float) -> tuple[float, float]:
    """The standard normal quantiles of 1 - alpha / 2 and of the power."""
    check_fraction("power", power)
    check_fraction("alpha", alpha)
    if power < 0.5:  # below it z_power is negative and "detectable" has lost its meaning
        raise InputError(f"power must be at least 0.5, not {power}.")
    return float(special.ndtri(1 - alpha / 2)), float(special.ndtri(power))


def _variance(discordant_rate: float | None, sd: float | None) -> float:
    """The variance of one prompt's difference where the mean is 0: sd^2, or the discordant rate."""
    if (discordant_rate is None) == (sd is None):
        raise InputError("Give either discordant_rate (0/1 outcomes) or sd (scores), and not both.")
    if discordant_rate is not None:
        if not 0.0 <= discordant_rate <= 1.0:
            raise InputError(f"discordant_rate must lie between 0 and 1, not {discordant_rate}.")
        return discordant_rate
    if sd is None or not 0.0 <= sd < math.inf:
        raise InputError(f"sd must be a finite number of at least 0, not {sd}.")
    return sd**2
