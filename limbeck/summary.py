"""What a run says at its end on the console: the verdict's sentence and table, and where every unit stands."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from limbeck.console import results
from limbeck.errors import InputError
from limbeck.pipeline import Standing
from limbeck.records import Comparison, Estimate, ModelScore, Verdict
from limbeck.store import first_problem


def read_verdict(path: Path) -> Verdict:
    """Read a verdict.

    Raises:
        InputError: where there is none, or it is damaged.
    """
    try:
        return Verdict.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"{path} is damaged: {first_problem(error)}") from error


def show_verdict(path: Path) -> None:
    """Print the verdict's sentence and its table."""
    verdict = read_verdict(path)
    table = Table(title=f"held-out problems, {100 * verdict.confidence:.0f} % intervals", title_justify="left")
    for column in ("model", "accuracy", "vs SFT, points", "transfer", "truncated", "unparsed", "chat nats/token"):
        table.add_column(column, justify="left" if column == "model" else "right")
    against_sft = {c.candidate: c for c in verdict.comparisons if c.split == "test" and c.judge == "verifier"}
    for score in verdict.scores:
        table.add_row(*_row(score, against_sft.get(score.model)))
    rewards = [c for c in verdict.comparisons if c.split == "test" and c.judge != "verifier"]
    results.print()
    results.print(table)
    for c in rewards:
        results.print(
            f"{c.candidate}: win rate against {c.baseline} {_share(c.win_rate)} ({c.judge}; {c.wins} W, {c.ties} T, "
            f"{c.losses} L, {c.unscored} unscored)",
            markup=False,
        )
    results.print(verdict.sentence, markup=False, soft_wrap=True)


def _row(score: ModelScore, comparison: Comparison | None) -> list[str]:
    retained = score.retention_nats_per_token
    return [
        escape(score.model),
        _share(score.accuracy),
        "" if comparison is None else _points(comparison.difference),
        _share(score.transfer_accuracy),
        f"{score.truncated}",
        f"{score.unparsable}",
        "-" if retained is None else f"{retained:.3f}",
    ]


def _share(found: Estimate | None) -> str:
    if found is None:
        return "-"
    return f"{100 * found.estimate:.1f} % \\[{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _points(found: Estimate) -> str:
    return f"{100 * found.estimate:+.1f} \\[{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def show_standings(found: Iterable[Standing]) -> None:
    """Print one line a unit: its name, its state, and why."""
    for standing in found:
        why = f": {standing.why}" if standing.why else ""
        results.print(f"{standing.unit.name:30} {standing.state}{why}", markup=False)
