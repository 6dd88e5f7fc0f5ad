"""A sweep's results as Markdown, and the arms that go on into the next, larger sweep."""

from collections.abc import Sequence

from experiments.sweep import CONTROL, ArmResult
from limbeck.stages.verdict.pooling import Pooled

HEAD = (
    "| arm | accuracy | to SFT, points | to the control, points | tokens trained on | minutes |\n"
    "|---|---:|---:|---:|---:|---:|"
)


def markdown(found: Sequence[ArmResult]) -> str:
    """One row an arm: accuracy by seed, differences with their intervals over all seeds, what its training took."""
    return "\n".join([HEAD, *map(_row, found)])


def _row(one: ArmResult) -> str:
    accuracies = " / ".join(f"{100 * share:.1f} %" for share in one.accuracies)
    return (
        f"| {one.arm} | {accuracies} | {_difference(one.to_sft)} | {_difference(one.to_control)} "
        f"| {one.tokens:,.0f} | {one.seconds / 60:.1f} |"
    )


def _difference(found: Pooled | None) -> str:
    if found is None:
        return "-"
    d = found.together.difference
    return f"{100 * d.estimate:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"


def going_on(found: Sequence[ArmResult], keep: int) -> list[str]:
    """The best `keep` arms by the difference to SFT, and the control (Jamieson and Talwalkar 2016: successive halving).

    Of equals the one that was trained on fewer tokens.
    """
    ranked = sorted(
        (one for one in found if one.arm != CONTROL),
        key=lambda one: (-one.to_sft.together.difference.estimate, one.tokens),
    )
    controls = [one.arm for one in found if one.arm == CONTROL]
    return [*(one.arm for one in ranked[:keep]), *controls]
