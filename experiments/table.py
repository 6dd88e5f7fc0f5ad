"""A sweep's results as Markdown, and the arms that go on into the next, larger sweep."""

from collections.abc import Sequence

from experiments.sweep import CONTROL, ArmResult
from limbeck.commands.evaluated import percent
from limbeck.stages.verdict.models import EXACT
from limbeck.stages.verdict.pooling import Pooled

_TOOK = "tokens trained on | minutes |\n|---|---:|---:|---:|---:|---:|"
HEAD = f"| arm | accuracy | to SFT, points | to the control, points | {_TOOK}"
LEARNED_HEAD = f"| arm | won of SFT | won of SFT, and at equal lengths | won of the control, likewise | {_TOOK}"


def markdown(found: Sequence[ArmResult]) -> str:
    """One row an arm: accuracy by seed, differences with their intervals over all seeds, what its training took.

    Of a learned judge, whose unit says nothing: rates of comparisons won, ties half unless the recipe says otherwise.
    """
    head = HEAD if all(one.to_sft.together.judge == EXACT for one in found) else LEARNED_HEAD
    return "\n".join([head, *map(_row, found)])


def _row(one: ArmResult) -> str:
    rates = " / ".join(f"{100 * share:.1f} %" for share in one.rates)
    return (
        f"| {one.arm} | {rates} | {_compared(one.to_sft)} | {_compared(one.to_control)} "
        f"| {one.tokens:,.0f} | {one.seconds / 60:.1f} |"
    )


def _compared(found: Pooled | None) -> str:
    if found is None:
        return "-"
    if found.together.judge != EXACT:
        even = found.together.length_controlled_win_rate
        return f"{percent(found.together.win_rate)}, {'-' if even is None else percent(even)}"
    d = found.together.difference
    return f"{100 * d.estimate:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"


def going_on(found: Sequence[ArmResult], keep: int) -> list[str]:
    """The best `keep` arms by the gain over SFT, and the control (Jamieson and Talwalkar 2016: successive halving).

    Of equals the one that was trained on fewer tokens.
    """
    ranked = sorted(
        (one for one in found if one.arm != CONTROL),
        key=lambda one: (-one.to_sft.together.gain, one.tokens),
    )
    controls = [one.arm for one in found if one.arm == CONTROL]
    return [*(one.arm for one in ranked[:keep]), *controls]
