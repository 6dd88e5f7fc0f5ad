"""Several runs side by side: what each achieved, where, how it trained, what it cost, and what their recipes differ in.

Nothing is pooled or tested across runs: each run's figures are its own verdict's (of means, see `over_seeds.py`). What
makes them hard to compare (other test prompts, another judge, another student) is said first. Refuses to read a run
folder: `gather.py` read.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from limbeck.judges.books import Paid
from limbeck.records import Estimate
from limbeck.records.verdict import Comparison
from limbeck.stages.report import ledger, wording
from limbeck.stages.report.answer import best_comparison
from limbeck.stages.report.curves import Curves, overlaid_curves, run_name
from limbeck.stages.report.figures import Dot, DotAxis, DotGroup, Legend, dot_whisker, legend_entry
from limbeck.stages.report.gather import Gathered
from limbeck.stages.report.results import Figure, detectable, difference_axis, difference_cell
from limbeck.stages.report.tables import EMPTY, Cell, Column, Table

Runs = Mapping[str, Gathered]  # by the name that tells each from the others
_FIRST_SERIES = 2  # 0 and 1 are the models before preference training, in grey and black
_LONGEST_VALUE = 200


class Part(NamedTuple):
    """A comparison within one run."""

    run: str
    comparison: Comparison


def series_of_runs(runs: Runs) -> dict[str, int]:
    """A number for every run, the same in all figures."""
    return {name: _FIRST_SERIES + place for place, name in enumerate(runs)}


def _legend(runs: Runs) -> tuple[Legend, ...]:
    return tuple(legend_entry(number, name) for name, number in series_of_runs(runs).items())


def cautions(runs: Runs) -> tuple[str, ...]:
    """What must be known before figures of different runs are set against each other."""
    found = [_about_prompts(runs)]
    for what, values in (
        ("judge", {name: ", ".join(run.recipe.judged_by()) for name, run in runs.items()}),
        ("student", {name: run.recipe.model.student for name, run in runs.items()}),
        ("confidence", {name: f"{100 * run.verdict.confidence:g}%" for name, run in runs.items()}),
    ):
        if len(set(values.values())) > 1:
            listed = "; ".join(f"{name}: {value}" for name, value in values.items())
            found.append(f"The {what} is not the same in all runs ({listed}).")
    return tuple(found)


def _about_prompts(runs: Runs) -> str:
    asked = {name: {held.row.prompt for held in run.prompts if held.split == "test"} for name, run in runs.items()}
    sizes = ", ".join(f"{name}: {wording.count(len(prompts))}" for name, prompts in asked.items())
    if not all(asked.values()):
        return f"Whether the runs were judged on the same test prompts cannot be told: some are missing ({sizes})."
    shared = set.intersection(*asked.values())
    if all(prompts == shared for prompts in asked.values()):
        return f"All runs were judged on the same {wording.count(len(shared))} test prompts."
    return (
        f"The runs were judged on different test prompts ({sizes}; {wording.count(len(shared))} are in all of them): "
        "only differences to a run’s own baseline can be compared, and those with care."
    )


def score_figures(runs: Runs) -> tuple[Figure, ...]:
    """Accuracy, and mean reward where there is one, of every model, run by run."""
    kinds: tuple[tuple[str, str, DotAxis], ...] = (
        ("accuracy", "Accuracy", DotAxis("accuracy, % of prompts", 100, (0, 100))),
        ("mean_reward", "Mean reward", DotAxis("mean reward")),
    )
    figures = []
    for field, title, axis in kinds:
        found: dict[str, dict[str, Estimate]] = {}
        for name, run in runs.items():
            for score in run.verdict.scores:
                estimate: Estimate | None = getattr(score, field)
                if estimate is not None:
                    found.setdefault(score.model, {})[name] = estimate
        if found:
            groups = [_group(model, estimates, runs, axis.factor) for model, estimates in found.items()]
            caption = f"{title} of every model on its run’s own held-out test prompts, with the run’s intervals."
            figures.append(Figure((dot_whisker(f"{title} by run", groups, axis),), _legend(runs), caption))
    return tuple(figures)


def _group(label: str, estimates: Mapping[str, Estimate], runs: Runs, factor: float) -> DotGroup:
    number = series_of_runs(runs)
    dots = tuple(
        Dot(
            number[name],
            e,
            f"{name}: {factor * e.estimate:.4g} [{factor * e.low:.4g}, {factor * e.high:.4g}], n = {e.n}",
        )
        for name, e in estimates.items()
    )
    sizes = sorted({estimate.n for estimate in estimates.values()})
    return DotGroup(label, f"n = {' to '.join(wording.count(n) for n in dict.fromkeys((sizes[0], sizes[-1])))}", dots)


def _written(found: Estimate, factor: float) -> str:
    low, middle, high = (f"{factor * value:.4g}" for value in (found.low, found.estimate, found.high))
    return f"{middle} [{low}, {high}]"


def _comparisons(runs: Runs) -> list[Part]:
    return [Part(name, c) for name, run in runs.items() for c in run.verdict.comparisons if c.split == "test"]


def difference_figures(runs: Runs) -> tuple[Figure, ...]:
    """Each model's paired difference to its own run's baseline, judge by judge."""
    parts, figures = _comparisons(runs), []
    for judge in dict.fromkeys(part.comparison.judge for part in parts):
        chosen = [part for part in parts if part.comparison.judge == judge]
        labels: dict[str, dict[str, Estimate]] = {}
        for run, c in chosen:
            labels.setdefault(f"{c.candidate} against {c.baseline}", {})[run] = c.difference
        axis = difference_axis(judge)
        groups = [_group(label, estimates, runs, axis.factor) for label, estimates in labels.items()]
        caption = f"Paired differences within each run, judge {judge}, with the run’s intervals."
        drawing = dot_whisker(f"Differences by run, judge {judge}", groups, axis)
        figures.append(Figure((drawing,), _legend(runs), caption))
    return tuple(figures)


def comparison_table(runs: Runs) -> Table:
    """Every comparison of every run on its test prompts."""
    figures = ("Difference", "p, Holm", "Win rate", "Won / tied / lost", "Could have shown")
    columns = (Column("Model", "head"), Column("Run", "text"), Column("Judge", "text"), *map(Column, figures))
    rows = [
        (
            Cell(c.candidate, f"against {c.baseline}"),
            Cell(run),
            Cell(c.judge),
            difference_cell(c.difference, c.judge),
            Cell(wording.p_value(c.p_value_holm)),
            Cell(wording.percent(c.win_rate.estimate), wording.percent_interval(c.win_rate)),
            Cell(f"{c.wins} / {c.ties} / {c.losses}", f"n = {wording.count(c.difference.n)}"),
            detectable(c),
        )
        for run, c in _comparisons(runs)
    ]
    order = list(dict.fromkeys(row[0].main for row in rows))
    return Table(columns, tuple(sorted(rows, key=lambda row: order.index(row[0].main))))


def topic_figure(runs: Runs) -> Figure | None:
    """The difference of every run's best arm, topic by topic, by the judge that gives the headline."""
    best = {name: found for name, run in runs.items() if (found := best_comparison(run)) and found.by_topic}
    judges = {comparison.judge for comparison in best.values()}
    if len(judges) != 1:  # none knows topics, or their units differ
        return None
    topics: dict[str, dict[str, Estimate]] = {}
    for name, comparison in best.items():
        for result in comparison.by_topic:
            topics.setdefault(result.topic, {})[name] = result.difference
    axis = difference_axis(judges.pop())
    groups = [_group(topic, estimates, runs, axis.factor) for topic, estimates in topics.items()]
    arms = ", ".join(f"{name}: {comparison.candidate}" for name, comparison in best.items())
    caption = f"Paired difference of each run’s best arm ({arms}) to its baseline, topic by topic."
    return Figure((dot_whisker("Difference by topic and run", groups, axis),), _legend(runs), caption)


def topic_table(runs: Runs) -> Table | None:
    """Accuracy topic by topic: a row a topic and model, a column a run."""
    found: dict[tuple[str, str], dict[str, Estimate]] = {}
    for name, run in runs.items():
        for score in run.verdict.scores:
            for topic, estimate in score.accuracy_by_topic.items():
                found.setdefault((topic, score.model), {})[name] = estimate
    columns = (Column("Topic", "head"), Column("Model", "text"), *map(Column, runs))
    rows = tuple(
        (Cell(topic), Cell(model), *(_share(estimates.get(name)) for name in runs))
        for (topic, model), estimates in sorted(found.items(), key=lambda item: item[0][0])
    )
    return Table(columns, rows) if rows else None


def _share(found: Estimate | None) -> Cell:
    if found is None:
        return EMPTY
    return Cell(wording.percent(found.estimate), f"{wording.percent_interval(found)}\nn = {wording.count(found.n)}")


class Overlay(NamedTuple):
    """A unit of training by the name that a reader calls it, and its curves in all runs."""

    name: str
    curves: Curves


def training_curves(runs: Runs) -> tuple[Overlay, ...]:
    """For every training unit, the curves of all runs that have it, on the same axes."""
    units = dict.fromkeys(unit for run in runs.values() for unit, points in run.metrics.items() if points)
    series, overlays = series_of_runs(runs), []
    for unit in units:
        having = {name: run.metrics[unit] for name, run in runs.items() if run.metrics.get(unit)}
        overlays.append(Overlay(run_name(unit), overlaid_curves(unit, having, series)))
    return tuple(overlays)


def recipe_table(runs: Runs) -> Table | None:
    """What the recipes differ in, field by field; None where they are the same but for their names."""
    flat = {name: dict(_fields(run.recipe.model_dump(mode="json"))) for name, run in runs.items()}
    names = dict.fromkeys(field for fields in flat.values() for field in fields)
    rows = []
    for field in names:
        values = [fields.get(field) for fields in flat.values()]
        if field != "name" and any(value != values[0] for value in values):
            rows.append((Cell(field), *(_value(value) for value in values)))
    return Table((Column("Field", "head"), *(Column(name, "text") for name in runs)), tuple(rows)) if rows else None


def _fields(part: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in part.items():
        if isinstance(value, Mapping) and value:
            yield from _fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "none" if value is None else str(value)


def _value(value: str | None) -> Cell:
    if value is None:  # a section or an arm that this recipe has not
        return EMPTY
    return Cell(value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}…")


def cost_table(runs: Runs) -> Table:
    """Time, tokens and money of every stage, a column a run."""
    stages = {name: ledger.by_stage(run.manifests) for name, run in runs.items()}
    names = dict.fromkeys(stage for of in stages.values() for stage in of)
    rows = [(Cell(stage), *(_cost(stages[name].get(stage, {})) for name in runs)) for stage in names]
    judges = dict.fromkeys(judge for run in runs.values() for judge in run.judges_paid)
    rows += [(Cell(f"judge {judge}"), *(_judge_cost(run.judges_paid.get(judge)) for run in runs.values()))
             for judge in judges]  # fmt: skip
    together = (Cell("Together"), *(_cost(run.manifests, run.judges_paid) for run in runs.values()))
    return Table((Column("Stage", "head"), *map(Column, runs)), (*rows, together))


def _cost(manifests: ledger.Manifests, paid: ledger.JudgesPaid | None = None) -> Cell:
    if not manifests:
        return EMPTY
    tokens, spent = sum(ledger.tokens_of(manifests).values()), ledger.money_usd(manifests, paid or {})
    notes = [f"{wording.count(tokens)} tokens"] if tokens else []
    notes += [wording.money(spent)] if spent is not None else []
    return Cell(wording.duration(sum(manifest.seconds for manifest in manifests.values())), "\n".join(notes))


def _judge_cost(paid: Paid | None) -> Cell:
    if paid is None:
        return EMPTY
    said = "price not known" if paid.usd is None else wording.money(paid.usd)
    return Cell(said, f"{wording.count(paid.tokens)} tokens in its books")


def alarm_table(runs: Runs) -> Table | None:
    """The alarms of every run; None where there are none."""
    rows = tuple(
        (Cell(name), Cell(alarm.about), Cell(alarm.sentence, alarm.advice))
        for name, run in runs.items()
        for alarm in dict.fromkeys(run.alarms)
    )
    columns: Sequence[Column] = (Column("Run", "head"), Column("In", "text"), Column("Alarm", "text"))
    return Table(tuple(columns), rows) if rows else None
