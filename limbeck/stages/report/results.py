"""Results: the verdict's scores and comparisons as tables and figures.

The verdict decided everything; here it is only arranged. Refuses to compute a statistic: what the verdict does not
hold is shown as not measured.
"""

from collections import Counter
from typing import NamedTuple

from markupsafe import Markup

from limbeck.recipe.verdict import Judge
from limbeck.records import Estimate
from limbeck.records.verdict import Comparison, ModelScore, Verdict
from limbeck.stages.report import wording
from limbeck.stages.report.figures import Dot, DotAxis, DotGroup, Legend, dot_whisker, legend_entry
from limbeck.stages.report.tables import EMPTY, Cell, Column, Table


class Figure(NamedTuple):
    """One or more drawings with a legend and a caption that states what they show."""

    drawings: tuple[Markup, ...]
    legend: tuple[Legend, ...]
    caption: str


def series_of(verdict: Verdict) -> dict[str, int]:
    """A number for every model, the same in all figures: base 0, sft 1, arms from 2 in the verdict's order."""
    arms = [score.model for score in verdict.scores if score.model not in ("base", "sft")]
    return {"base": 0, "sft": 1} | {arm: 2 + index for index, arm in enumerate(arms)}


def baseline_of(verdict: Verdict) -> str:
    """The model that most test comparisons are made against; `sft` where it is one of them, or there are none."""
    baselines = Counter(comparison.baseline for comparison in verdict.comparisons if comparison.split == "test")
    return "sft" if "sft" in baselines or not baselines else baselines.most_common(1)[0][0]


def main_table(verdict: Verdict, judge: Judge) -> Table:
    """What each model achieved, and how it differs from the baseline, as `judge` says."""
    baseline = baseline_of(verdict)
    against = {
        comparison.candidate: comparison
        for comparison in verdict.comparisons
        if comparison.split == "test" and comparison.baseline == baseline and comparison.judge == judge
    }
    titles = ("Accuracy", f"Difference to {baseline}", "p, Holm", f"Win rate against {baseline}", "At equal lengths",
              "Won / tied / lost", "Could have shown", "Transfer accuracy", "Mean reward")  # fmt: skip
    rows = [_main_row(score, against.get(score.model)) for score in verdict.scores]
    return _filled(Table((Column("Model", "head"), *map(Column, titles)), tuple(rows)))


def _main_row(score: ModelScore, comparison: Comparison | None) -> tuple[Cell, ...]:
    difference, p, win_rate, tally = _against(comparison)
    return (
        Cell(score.model),
        _share(score.accuracy),
        difference,
        p,
        win_rate,
        _at_equal_lengths(comparison),
        tally,
        detectable(comparison) if comparison else EMPTY,
        _share(score.transfer_accuracy),
        _reward(score.mean_reward),
    )


def _at_equal_lengths(comparison: Comparison | None) -> Cell:
    """A verifier does not look at length."""
    even = comparison.length_controlled_win_rate if comparison and comparison.judge != "verifier" else None
    return EMPTY if even is None else Cell(wording.percent(even.estimate), wording.percent_interval(even))


def _filled(table: Table) -> Table:
    """Without the columns in which nothing stands."""
    kept = [at for at in range(len(table.columns)) if at == 0 or any(row[at] != EMPTY for row in table.rows)]
    return Table(tuple(table.columns[at] for at in kept), tuple(tuple(row[at] for at in kept) for row in table.rows))


def _share(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return EMPTY
    interval = wording.percent_interval(estimate)
    return Cell(wording.percent(estimate.estimate), f"{interval}\nn = {wording.count(estimate.n)}")


def _reward(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return EMPTY
    bounds = f"[{wording.plain(estimate.low)}, {wording.plain(estimate.high)}]"
    return Cell(wording.plain(estimate.estimate), f"{bounds}\nn = {wording.count(estimate.n)}")


def _against(comparison: Comparison | None) -> tuple[Cell, Cell, Cell, Cell]:
    if comparison is None:
        return EMPTY, EMPTY, EMPTY, EMPTY
    n = wording.count(comparison.difference.n)
    interval = wording.difference_interval(comparison.difference, comparison.judge)
    return (
        Cell(wording.difference(comparison.difference, comparison.judge), f"{interval}\nn = {n}"),
        Cell(wording.p_value(comparison.p_value_holm)),
        Cell(wording.percent(comparison.win_rate.estimate), wording.percent_interval(comparison.win_rate)),
        Cell(f"{comparison.wins} / {comparison.ties} / {comparison.losses}", _unscored(comparison)),
    )


def _unscored(comparison: Comparison) -> str:
    return f"{wording.count(comparison.unscored)} unscored" if comparison.unscored else ""


def side_table(verdict: Verdict) -> Table:
    """What else may have changed: form, length, and how likely the base model's chat replies still are."""
    baseline = next((score for score in verdict.scores if score.model == baseline_of(verdict)), None)
    before = baseline.retention_nats_per_token if baseline else None
    columns = ("Missing", "Unparsable", "Truncated", "Unscored", "Response tokens", "Repetition", "Prompt echo",
               "Chat retention, nats/token", f"Its change to {baseline_of(verdict)}")  # fmt: skip
    rows = tuple(_side_row(score, before) for score in verdict.scores)
    return Table((Column("Model", "head"), Column("Replies"), *map(Column, columns)), rows)


def _side_row(score: ModelScore, before: float | None) -> tuple[Cell, ...]:
    now = score.retention_nats_per_token
    return (
        Cell(score.model),
        Cell(wording.count(score.num_replies)),
        Cell(wording.count(score.missing)),
        *(Cell(wording.count_of(n, score.num_replies)) for n in (score.unparsable, score.truncated)),
        Cell(wording.count(score.unscored)),  # of the judgements of all judges, not of the replies
        EMPTY if score.mean_response_tokens is None else Cell(wording.plain(score.mean_response_tokens, 1)),
        Cell(wording.percent(score.repetition_rate)),
        EMPTY if score.prompt_echo_rate is None else Cell(wording.percent(score.prompt_echo_rate)),
        Cell(wording.plain(now, 3)) if now is not None else EMPTY,
        Cell(wording.signed(now - before, 3)) if now is not None and before is not None else EMPTY,
    )


def comparison_table(verdict: Verdict) -> Table:
    """Every comparison of the verdict, with what it could have detected."""
    columns = ("Difference", "p", "p, Holm", "Win rate", "Won / tied / lost", "Smallest detectable difference")
    rows = []
    for comparison in verdict.comparisons:
        change, holm, win_rate, tally = _against(comparison)
        rows.append((
            Cell(comparison.candidate, f"against {comparison.baseline}"),
            Cell(f"{comparison.split}, {comparison.judge}"),
            change,
            Cell(wording.p_value(comparison.p_value)),
            holm,
            win_rate,
            tally,
            detectable(comparison),
        ))  # fmt: skip
    return Table((Column("Model", "head"), Column("Prompts, judge", "text"), *map(Column, columns)), tuple(rows))


def detectable(comparison: Comparison) -> Cell:
    """The smallest difference that the prompts of a comparison could have shown."""
    smallest = comparison.minimum_detectable_difference
    if smallest is None:  # no reply differed: nothing says how much replies vary
        return EMPTY
    return Cell(f"{100 * smallest:.1f} points" if comparison.judge == "verifier" else wording.plain(smallest))


def difference_figure(verdict: Verdict, judge: str) -> Figure | None:
    """The paired difference of each model to its baseline by one judge, with its interval."""
    chosen = [comparison for comparison in verdict.comparisons if comparison.judge == judge]
    if not chosen:
        return None
    groups = tuple(_difference_group(comparison, series_of(verdict)) for comparison in chosen)
    caption = (
        f"Paired difference of each model to the model it is compared with, judge {judge}: estimate and "
        f"{_confidence(verdict)} interval over prompts; p-values are Holm-corrected; MDE is the smallest difference "
        "that the prompts could have shown."
    )
    return Figure((dot_whisker(f"Differences, judge {judge}", groups, difference_axis(judge)),), (), caption)


def difference_cell(found: Estimate, judge: str) -> Cell:
    """A paired difference over its interval, in the unit of a judge."""
    return Cell(wording.difference(found, judge), wording.difference_interval(found, judge))


def difference_axis(judge: str) -> DotAxis:
    """The axis of paired differences, in the unit of a judge."""
    unit = {"verifier": "points of accuracy", "pairwise": "win minus loss rate"}.get(judge, "reward")
    return DotAxis(f"candidate minus baseline, {unit}", 100 if judge == "verifier" else 1, (0,), zero_line=True)


def _difference_group(comparison: Comparison, series: dict[str, int]) -> DotGroup:
    change = wording.difference(comparison.difference, comparison.judge)
    interval = wording.difference_interval(comparison.difference, comparison.judge)
    p = wording.p_value(comparison.p_value_holm)
    smallest = detectable(comparison)
    aside = f"{change.removesuffix(' points')} {interval}, {p}, MDE {smallest.main.removesuffix(' points')}"
    dot = Dot(series.get(comparison.candidate, 0), comparison.difference, f"{change} {interval}, {p}", aside)
    note = f"against {comparison.baseline}, {comparison.split}, n = {wording.count(comparison.difference.n)}"
    return DotGroup(comparison.candidate, note, (dot,))


def accuracy_figure(verdict: Verdict) -> Figure | None:
    """Accuracy of every model: over all test prompts, family by family, and on transfer prompts."""
    series = series_of(verdict)
    topics = dict.fromkeys(topic for score in verdict.scores for topic in sorted(score.accuracy_by_topic))
    shown = [("All test prompts", {s.model: s.accuracy for s in verdict.scores})]
    shown += [(topic, {s.model: s.accuracy_by_topic.get(topic) for s in verdict.scores}) for topic in topics]
    shown += [("Transfer prompts", {s.model: s.transfer_accuracy for s in verdict.scores})]
    groups = tuple(group for label, estimates in shown if (group := _accuracy_group(label, estimates, series)).dots)
    if not groups:
        return None
    drawing = dot_whisker("Accuracy by family", groups, DotAxis("accuracy, % of prompts", 100, (0, 100)))
    caption = (
        f"Accuracy of each model with {_confidence(verdict)} intervals: over all held-out test prompts, by family, and "
        "on transfer prompts where there are any. Truncated replies are included."
    )
    legend = tuple(legend_entry(series[score.model], score.model) for score in verdict.scores)
    return Figure((drawing,), legend, caption)


def _accuracy_group(label: str, estimates: dict[str, Estimate | None], series: dict[str, int]) -> DotGroup:
    known = {model: estimate for model, estimate in estimates.items() if estimate is not None}
    dots = tuple(
        Dot(series[model], e, f"{model}: {wording.percent(e.estimate)} {wording.percent_interval(e)}, n = {e.n}")
        for model, e in known.items()
    )
    sizes = sorted({estimate.n for estimate in known.values()})
    ends = dict.fromkeys(sizes[:1] + sizes[-1:])  # one number where all models were asked the same prompts
    return DotGroup(label, f"n = {' to '.join(map(wording.count, ends))}" if sizes else "", dots)


def _confidence(verdict: Verdict) -> str:
    return f"{100 * verdict.confidence:g}%"
