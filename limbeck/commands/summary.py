"""What a run says at its end on the console: the verdict's sentence and table, and where every unit stands."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from limbeck.commands.verdict_tables import show_comparisons, show_judges, show_pair_accuracies, show_strengths
from limbeck.conductor import Standing
from limbeck.console import results, show
from limbeck.recipe.pairs import Teach
from limbeck.records import Estimate
from limbeck.records.alarms import Alarm
from limbeck.records.audit import Audit
from limbeck.records.verdict import Comparison, ModelScore, Verdict
from limbeck.store import read_record, read_records

if TYPE_CHECKING:
    from limbeck.stages.teach.rehearsal import Rehearsed


def show_verdict(path: Path) -> None:
    """Print the verdict's tables, what is known of its judges, then its sentence."""
    verdict = read_record(path, Verdict)
    if any(score.accuracy is not None for score in verdict.scores):
        _show_accuracies(verdict)
    show_comparisons([c for c in verdict.comparisons if c.split == "test"], verdict.confidence, verdict.ties)
    show_strengths(verdict.strengths, verdict.confidence)
    show_pair_accuracies(verdict.pair_accuracies, verdict.confidence)
    show_judges(verdict.judges, verdict.agreements)
    show(f"\n{verdict.sentence}")


def _show_accuracies(verdict: Verdict) -> None:
    interval = f"{100 * verdict.confidence:.0f} % interval"
    table = Table(title=f"Held-out problems; below each figure its {interval}", title_justify="left")
    for column in ("model", "accuracy", "vs SFT,\npoints", "transfer", "cut\noff", "no\nanswer", "chat,\nnats/token"):
        table.add_column(column, justify="left" if column == "model" else "right", overflow="fold")
    against_sft = {
        c.candidate: c
        for c in verdict.comparisons
        if c.split == "test" and c.judge == "verifier" and c.baseline == "sft"
    }
    for score in verdict.scores:
        table.add_row(*_row(score, against_sft.get(score.model)))
    results.print()
    results.print(table)


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
    return f"{100 * found.estimate:.1f} %\n\\[{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _points(found: Estimate) -> str:
    return f"{100 * found.estimate:+.1f}\n\\[{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def show_standings(found: Iterable[Standing]) -> None:
    """Print one line a unit: its name, its state, and why."""
    for standing in found:
        why = f": {standing.why}" if standing.why else ""
        show(f"{standing.unit.name:30} {standing.state}{why}")


def show_alarms(folder: Path, standings: Sequence[Standing]) -> None:
    """Print the alarms of a run's units with their advice, those of its pairs first, then in the order they were found
    in. Not of what else lies in its folder: an arm that is no longer in the recipe, a round beyond the last.
    """
    found = _alarms_of(folder, standings)
    if found:
        results.rule(f"{len(found)} alarm{'s' if len(found) > 1 else ''}", align="left")
    for alarm in found:
        show(f"{alarm.sentence} {alarm.advice}")


def _alarms_of(folder: Path, standings: Sequence[Standing]) -> list[Alarm]:
    audit = folder / "audit" / "audit.json"
    before = read_record(audit, Audit).alarms if audit.is_file() else ()
    files = [path for each in standings if (path := folder / each.unit.name / "alarms.jsonl").is_file()]
    files.sort(key=lambda path: (path.stat().st_mtime, path))
    return [*before, *(alarm for path in files for alarm in read_records(path, Alarm))]


def show_rehearsal(rehearsed: "Rehearsed", settings: Teach) -> None:
    """Print one request of each kind as it would be sent, then how many there are and what they may cost."""
    for name, asked in rehearsed.by_template.items():
        results.rule(escape(f"{name}: the first of {asked.number:,}"), align="left")
        for message in asked.first:
            results.print(f"[bold]{message.role}[/]")
            show(message.content)
    results.rule(align="left")
    show(
        f"{rehearsed.requests:,} requests where every reply is usable: prompts of about {rehearsed.prompt_tokens:,} "
        f"tokens, replies of at most {rehearsed.most_reply_tokens:,} ({settings.max_tokens:,} each)"
    )
    show(_cost(rehearsed, settings))


def _cost(rehearsed: "Rehearsed", settings: Teach) -> str:
    limits = [] if settings.budget.usd is None else [f"${settings.budget.usd:g}"]
    limits += [] if settings.budget.tokens is None else [f"{settings.budget.tokens:,} tokens"]
    budget = f"the budget is {' and '.join(limits)}" if limits else "there is no budget"
    if rehearsed.prompts_usd is None or rehearsed.most_usd is None:
        return f"No price is known for {settings.teacher}; {budget}. Nothing was sent."
    return (
        f"${rehearsed.prompts_usd:.2f} for the prompts, at most ${rehearsed.most_usd:.2f} with the replies; {budget}. "
        "Nothing was sent."
    )
