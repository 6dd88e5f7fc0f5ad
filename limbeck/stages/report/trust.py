"""Is it safe to trust? Alarms, what was left out, overlap, judges and their agreement, length, strengths, pairs.

Arranges the verdict, the alarms and the manifests. Refuses to compute a figure and to decide what is an alarm.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from limbeck.manifest import Manifest
from limbeck.records import Estimate
from limbeck.records.alarms import Alarm
from limbeck.records.verdict import Agreement, JudgeCard, PairAccuracy, Strength, Verdict
from limbeck.stages.report import wording
from limbeck.stages.report.figures import Dot, DotAxis, DotGroup, dot_whisker, legend_entry
from limbeck.stages.report.published import win_rate_by
from limbeck.stages.report.results import Figure, difference_cell, series_of
from limbeck.stages.report.tables import EMPTY, Cell, Column, Table

OVERLAP = "overlap with evaluation"  # how corpus and screening begin the reason of such a drop
_CHECKING = ("corpus", "screen", "teach")  # units that look for it


class NumberedAlarm(NamedTuple):
    """An alarm and its number on the page, by which curves refer to it."""

    number: int
    alarm: Alarm


def numbered(alarms: Sequence[Alarm]) -> tuple[NumberedAlarm, ...]:
    """Alarms in their order, from 1; one that two units report is listed once."""
    return tuple(NumberedAlarm(number, alarm) for number, alarm in enumerate(dict.fromkeys(alarms), 1))


def overlap_table(manifests: Mapping[str, Manifest]) -> Table | None:
    """What was dropped from training data because an evaluation prompt is in it; None where nobody looked."""
    looked = {unit: manifests[unit].result for unit in _CHECKING if unit in manifests}
    if not looked:
        return None
    rows = []
    for unit, result in looked.items():
        found = {reason: number for reason, number in result.drops.items() if OVERLAP in reason}
        if not found and unit == "teach":  # it looks where it counts what it accepts, and only then says so
            continue
        said = "\n".join(f"{reason}: {wording.count(number)}" for reason, number in found.items())
        rows.append((Cell(unit), Cell(wording.count(sum(found.values()))), Cell(said) if said else EMPTY))
    return (
        Table((Column("Unit", "head"), Column("Dropped"), Column("By reason", "text")), tuple(rows)) if rows else None
    )


def judge_table(verdict: Verdict) -> Table | None:
    """Every judge's card: its accuracy beside that of the longer response, and its limits."""
    figures = ("Accuracy on held-out pairs", "Longer is chosen, same pairs", "Beyond length", "Calibration error")
    columns = (Column("Judge", "head"), *map(Column, figures), Column("Rates", "text"), Column("Limits", "text"))
    return Table(columns, tuple(_judge_row(card) for card in verdict.judges)) if verdict.judges else None


def _judge_row(card: JudgeCard) -> tuple[Cell, ...]:
    by_source, longer_by_source = (
        "\n".join(f"{source}: {wording.percent(e.estimate)}" for source, e in found.items())
        for found in (card.accuracy_by_source, card.longer_is_chosen_by_source)
    )
    rates = "\n".join(
        f"{name.replace('_', ' ')}: {wording.percent(rate.estimate)} {wording.percent_interval(rate)}"
        for name, rate in card.rates.items()
    )
    accuracy, longer, beyond = _share(card.accuracy), _share(card.longer_is_chosen), card.beyond_longer
    return (
        Cell(card.judge, card.about),
        Cell(accuracy.main, "\n".join(part for part in (accuracy.note, by_source) if part)),
        Cell(longer.main, "\n".join(part for part in (longer.note, longer_by_source) if part)),
        EMPTY if beyond is None else difference_cell(beyond, "verifier"),
        EMPTY if card.calibration_error is None else Cell(wording.plain(card.calibration_error, 3)),
        Cell(rates) if rates else EMPTY,
        Cell("\n".join(card.limits)) if card.limits else EMPTY,
    )


def _share(found: Estimate | None) -> Cell:
    if found is None:
        return EMPTY
    note = f"{wording.percent_interval(found)}\nn = {wording.count(found.n)}"
    return Cell(wording.percent(found.estimate), note)


def reliability_table(verdict: Verdict) -> Table | None:
    """What judges predicted of pairs, and what was true, bin by bin; None where no card holds bins."""
    rows = [
        (Cell(card.judge), Cell(wording.percent(each.predicted)), Cell(wording.percent(each.observed)),
         Cell(wording.count(each.n)))
        for card in verdict.judges
        for each in card.reliability
    ]  # fmt: skip
    columns = (Column("Judge", "head"), Column("Predicted"), Column("True"), Column("Pairs"))
    return Table(columns, tuple(rows)) if rows else None


def agreement_table(verdict: Verdict) -> Table | None:
    """How far judges agree, two by two."""
    columns = (Column("Judges", "head"), Column("Agree on who wins"), Column("Cohen’s kappa"), Column("Comparisons"))
    rows = tuple(_agreement_row(each) for each in verdict.agreements)
    return Table(columns, rows) if rows else None


def _agreement_row(found: Agreement) -> tuple[Cell, ...]:
    return (
        Cell(" and ".join(found.judges)),
        Cell(wording.percent(found.agreement.estimate), wording.percent_interval(found.agreement)),
        EMPTY if found.kappa is None else Cell(wording.plain(found.kappa)),
        Cell(wording.count(found.n)),
    )


def length_table(verdict: Verdict) -> Table | None:
    """Win rates as they are and at equal lengths, a tie half a win in both; None where none knows the latter."""
    rows = []
    for c in verdict.comparisons:
        controlled = c.length_controlled_win_rate
        if controlled is None:
            continue
        raw = win_rate_by(c, "half", verdict)
        rows.append((
            Cell(c.candidate, f"against {c.baseline}"),
            Cell(f"{c.split}, {c.judge}"),
            EMPTY if raw is None else Cell(wording.percent(raw.estimate), wording.percent_interval(raw)),
            Cell(wording.percent(controlled.estimate), wording.percent_interval(controlled)),
            EMPTY if raw is None else Cell(f"{wording.signed(100 * (controlled.estimate - raw.estimate))} points"),
        ))  # fmt: skip
    columns = (Column("Model", "head"), Column("Prompts, judge", "text"), Column("Win rate, ties half"),
               Column("At equal lengths"), Column("What length changes"))  # fmt: skip
    return Table(columns, tuple(rows)) if rows else None


def strength_figures(verdict: Verdict) -> tuple[Figure, ...]:
    """For every judge: how strong each model is among all on the same prompts."""
    figures = []
    for judge in dict.fromkeys(strength.judge for strength in verdict.strengths):
        chosen = [strength for strength in verdict.strengths if strength.judge == judge]
        groups = [_strength_group(strength, series_of(verdict)) for strength in chosen]
        axis = DotAxis("log odds of being preferred to the baseline", 1, (0,), zero_line=True)
        caption = (
            f"Strength of each model by judge {judge}, fitted to all comparisons of all models on the same prompts "
            f"(Bradley and Terry 1952), with {100 * verdict.confidence:g}% intervals; the baseline stands at 0."
        )
        figures.append(Figure((dot_whisker(f"Strength of each model, judge {judge}", groups, axis),), (), caption))
    return tuple(figures)


def _strength_group(strength: Strength, series: Mapping[str, int]) -> DotGroup:
    rate, odds = strength.win_rate, strength.log_odds
    aside = f"{wording.signed(odds.estimate, 2)}, as win rate {wording.percent(rate.estimate)}"
    aside += f" {wording.percent_interval(rate)}"
    note = f"n = {wording.count(odds.n)}"
    return DotGroup(strength.model, note, (Dot(series.get(strength.model, 0), odds, aside, aside),))


def pair_accuracy_figure(verdict: Verdict) -> Figure | None:
    """How often each model prefers the chosen response of held-out pairs, source by source."""
    found = verdict.pair_accuracies
    if not found:
        return None
    series = series_of(verdict)
    models = dict.fromkeys(each.model for each in found)
    number = {model: series.get(model, 0) for model in models}
    groups = []
    for source in dict.fromkeys(each.source for each in found):
        here = [each for each in found if each.source == source]
        dots = tuple(Dot(number[each.model], each.raw, _tip(each)) for each in here)
        longer = here[0].longer_is_chosen
        note = f"n = {wording.count(longer.n)}, longer: {wording.percent(longer.estimate)}"
        groups.append(DotGroup(source, note, dots))
    caption = (
        "Held-out pairs whose chosen response a model gives the higher log-probability, source by source, with "
        f"{100 * verdict.confidence:g}% intervals. Below each source: how often the longer response is the chosen one, "
        "which length alone would reach."
    )
    legend = tuple(legend_entry(number[model], model) for model in models)
    drawing = dot_whisker("Held-out pair accuracy by source", groups, DotAxis("% of pairs", 100, (0, 100)))
    return Figure((drawing,), legend, caption)


def _tip(found: PairAccuracy) -> str:
    return f"{found.model}: {wording.percent(found.raw.estimate)} {wording.percent_interval(found.raw)}"


def pair_accuracy_table(verdict: Verdict) -> Table:
    """Held-out pair accuracies, raw and against the reference."""
    columns = (Column("Model", "head"), Column("Source", "text"), Column("Raw"), Column("Against the reference"),
               Column("Longer is chosen"))  # fmt: skip
    rows = [
        (Cell(each.model), Cell(each.source), _share(each.raw), _share(each.against_reference),
         _share(each.longer_is_chosen))
        for each in verdict.pair_accuracies
    ]  # fmt: skip
    return Table(columns, tuple(rows))
