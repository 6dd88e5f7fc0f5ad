"""By how much, and where: wins and losses, single prompts, topics. Arranges the verdict and what judges left.

Refuses to compute a statistic: figures of single prompts show what was judged, intervals are the verdict's.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from limbeck.records.verdict import Comparison, Verdict
from limbeck.stages.report import wording
from limbeck.stages.report.figures import Dot, DotGroup, Legend, dot_whisker, legend_entry
from limbeck.stages.report.gather import Gathered
from limbeck.stages.report.paired import PromptPair, paired
from limbeck.stages.report.plots import Axis, Points, Tally, histogram_panel, point_panel, tally_bars
from limbeck.stages.report.results import (
    Figure,
    baseline_of,
    difference_axis,
    difference_cell,
    difference_figure,
    series_of,
)
from limbeck.stages.report.svg import tag
from limbeck.stages.report.tables import Cell, Column, Table

_GOLDEN = 0.6180339887498949  # successive multiples, modulo one, never lie close to each other
_SPREAD = 0.56  # height over which prompts of equal outcome are spread, in outcomes
OUTCOMES = ("won", "tied", "lost")


class JudgeResults(NamedTuple):
    """What one judge says: the best difference in a line, and all its figures, of models, topics and single prompts."""

    judge: str
    summary: str
    models: tuple[Figure, ...]
    topics: tuple[Figure, ...]
    prompts: tuple[Figure, ...]


def results_of(gathered: Gathered, judge: str) -> JudgeResults:
    """All figures by one judge; those that have nothing to show are left out."""
    verdict = gathered.verdict
    figures: tuple[tuple[Figure | None, ...], ...] = (
        (difference_figure(verdict, judge), tally_figure(verdict, judge)),
        (topic_figure(verdict, judge),),
        tuple(draw(gathered, judge) for draw in (scatter_figure, histogram_figure, length_figure)),
    )
    models, topics, prompts = (tuple(figure for figure in kind if figure) for kind in figures)
    return JudgeResults(judge, _summary(verdict, judge), models, topics, prompts)


def _summary(verdict: Verdict, judge: str) -> str:
    """The candidate, other than the base model, that gained most over the baseline."""
    best = max(
        (c for c in _against_baseline(verdict, judge) if c.candidate != "base"),
        key=lambda c: c.gain,
        default=None,
    )
    if best is None:
        return ""
    interval = wording.difference_interval(best.difference, judge)
    return f"{best.candidate} {wording.difference(best.difference, judge)} {interval} against {best.baseline}"


def judges_of(verdict: Verdict) -> tuple[str, ...]:
    """The judges of the verdict's comparisons, in its order."""
    return tuple(dict.fromkeys(comparison.judge for comparison in verdict.comparisons))


def tally_figure(verdict: Verdict, judge: str) -> Figure | None:
    """Won, tied and lost of every comparison by one judge."""
    chosen = [comparison for comparison in verdict.comparisons if comparison.judge == judge]
    if not chosen:
        return None
    rows = [
        Tally(c.candidate, _against(c), c.wins, c.ties, c.losses, f"win rate {_win_rate(c)}{_left_out(c)}")
        for c in chosen
    ]
    caption = (
        f"Prompts that a model won, tied or lost against the model it is compared with, judge {judge}. The dashed line "
        "is one half; a prompt that could not be scored on either side is in neither."
    )
    return Figure((tally_bars(f"Won, tied, lost, judge {judge}", rows),), _outcome_legend(), caption)


def _against(comparison: Comparison) -> str:
    rows, prompts = comparison.wins + comparison.ties + comparison.losses, comparison.win_rate.n
    replies = f", {wording.count(rows)} replies" if rows != prompts else ""
    return f"against {comparison.baseline}, {comparison.split}, n = {wording.count(prompts)}{replies}"


def _win_rate(comparison: Comparison) -> str:
    return f"{wording.percent(comparison.win_rate.estimate)} {wording.percent_interval(comparison.win_rate)}"


def _left_out(comparison: Comparison) -> str:
    return f"; {wording.count(comparison.unscored)} unscored" if comparison.unscored else ""


def _outcome_legend() -> tuple[Legend, ...]:
    def square(kind: str) -> Markup:
        shape = tag("rect", x=2, y=2, width=12, height=12, class_=f"bar {kind}")
        return tag("svg", shape, viewBox="0 0 16 16", aria_hidden="true")

    return tuple(Legend(square(kind), kind) for kind in OUTCOMES)


def topic_figure(verdict: Verdict, judge: str) -> Figure | None:
    """The paired difference of every model to the baseline, topic by topic."""
    chosen = _against_baseline(verdict, judge)
    topics = dict.fromkeys(result.topic for comparison in chosen for result in comparison.by_topic)
    if not topics:
        return None
    series = series_of(verdict)
    groups = []
    for topic in topics:
        found = [(c, result) for c in chosen for result in c.by_topic if result.topic == topic]
        dots = tuple(
            Dot(series.get(c.candidate, 0), r.difference,
                f"{c.candidate}: {wording.difference(r.difference, judge)} "
                f"{wording.difference_interval(r.difference, judge)}, {r.wins} / {r.ties} / {r.losses}")
            for c, r in found
        )  # fmt: skip
        sizes = sorted({result.difference.n for _, result in found})
        n = " to ".join(wording.count(size) for size in dict.fromkeys((sizes[0], sizes[-1])))
        groups.append(DotGroup(topic, f"n = {n}", dots))
    baseline = baseline_of(verdict)
    caption = (
        f"Paired difference of each model to {baseline}, topic by topic, judge {judge}: estimate and "
        f"{100 * verdict.confidence:g}% interval. Topics are small: intervals are not corrected for their number."
    )
    legend = tuple(legend_entry(series.get(c.candidate, 0), c.candidate) for c in chosen)
    drawing = dot_whisker(f"Difference by topic, judge {judge}", groups, difference_axis(judge))
    return Figure((drawing,), legend, caption)


def topic_table(verdict: Verdict) -> Table:
    """Won, tied, lost and the difference of every comparison, topic by topic."""
    columns = (Column("Topic", "head"), Column("Model", "text"), Column("Prompts, judge", "text"),
               Column("Won / tied / lost"), Column("Difference"))  # fmt: skip
    rows = [
        (
            Cell(result.topic),
            Cell(c.candidate, f"against {c.baseline}"),
            Cell(f"{c.split}, {c.judge}"),
            Cell(f"{result.wins} / {result.ties} / {result.losses}", f"n = {wording.count(result.difference.n)}"),
            difference_cell(result.difference, c.judge),
        )
        for c in verdict.comparisons
        for result in c.by_topic
    ]  # fmt: skip
    return Table(columns, tuple(sorted(rows, key=lambda row: row[0].main)))


def _against_baseline(verdict: Verdict, judge: str) -> list[Comparison]:
    baseline = baseline_of(verdict)
    return [c for c in verdict.comparisons if c.judge == judge and c.baseline == baseline and c.split == "test"]


def scatter_figure(gathered: Gathered, judge: str) -> Figure | None:
    """The candidate's reward of every prompt over the baseline's; nothing where a judge only says right or wrong."""

    def drawn(candidate: str, found: Sequence[PromptPair]) -> Markup:
        places = [(pair.before, pair.after) for pair in found]
        known = tuple((x, y) for x, y in places if x is not None and y is not None)
        above = sum(y > x for x, y in known)
        points = Points(series_of(gathered.verdict)[candidate], candidate, f"{above:,} of {len(known):,} above", known)
        return point_panel(
            points, Axis(f"reward of {baseline_of(gathered.verdict)}"), Axis("of the candidate"), diagonal=True
        )

    caption = (
        f"Reward of every test prompt by judge {judge}: above the line the candidate's reply is the better one. Far "
        "outliers stand at the edge."
    )
    return _per_candidate(
        gathered, judge, drawn, caption, wanted=lambda found: found[0].before is not None and _graded(found)
    )


def histogram_figure(gathered: Gathered, judge: str) -> Figure | None:
    """How often which paired difference occurs; nothing where a judge only says right or wrong."""

    def drawn(candidate: str, found: Sequence[PromptPair]) -> Markup:
        values = [pair.difference for pair in found]
        note = f"mean {wording.signed(sum(values) / len(values), 2)}"
        return histogram_panel(candidate, note, values, "difference in score")

    caption = (
        f"Difference in score of every test prompt, candidate minus {baseline_of(gathered.verdict)}, judge {judge}."
    )
    return _per_candidate(gathered, judge, drawn, caption, wanted=_graded)


def length_figure(gathered: Gathered, judge: str) -> Figure | None:
    """The difference in score over the difference in length: whether a model wins by writing more."""

    def drawn(candidate: str, found: Sequence[PromptPair]) -> Markup:
        known = [(pair.tokens, pair.difference) for pair in found if pair.tokens is not None]
        places = known if _graded(found) else _spread(known)
        mean = wording.signed(sum(x for x, _ in known) / len(known), 0)
        points = Points(series_of(gathered.verdict)[candidate], candidate, f"mean {mean} tokens", tuple(places))
        return point_panel(points, Axis("difference in tokens", (0,)), Axis("difference in score", (0,)))

    caption = (
        f"Difference in score over difference in length, candidate minus {baseline_of(gathered.verdict)}, judge "
        f"{judge}: points that rise to the right are won by writing more. Where only −1, 0 and 1 occur, "
        "points of equal outcome are spread a little upwards and downwards; far outliers stand at the edge."
    )
    return _per_candidate(
        gathered, judge, drawn, caption, wanted=lambda found: any(pair.tokens is not None for pair in found)
    )


def _graded(found: Sequence[PromptPair]) -> bool:
    return any(pair.difference not in (-1, 0, 1) for pair in found)


def _spread(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Equal outcomes set apart by a sequence that fills an interval evenly; the same for every page."""
    return [(x, y + _SPREAD * ((index * _GOLDEN) % 1 - 0.5)) for index, (x, y) in enumerate(places)]


def _per_candidate(
    gathered: Gathered,
    judge: str,
    drawn: Callable[[str, Sequence[PromptPair]], Markup],
    caption: str,
    wanted: Callable[[Sequence[PromptPair]], bool],
) -> Figure | None:
    """A panel for every model but the baseline on whose prompts there is something to draw."""
    baseline = baseline_of(gathered.verdict)
    drawings = []
    for candidate in (score.model for score in gathered.verdict.scores if score.model != baseline):
        found = paired(gathered, candidate, baseline, judge)
        if found and wanted(found):
            drawings.append(drawn(candidate, found))
    return Figure(tuple(drawings), (), caption) if drawings else None
