"""What somebody published beside what this run found: the recipe's rows matched with the verdict's, as values.

The published table comes first in its own order, then arms that were not published. Whether a published figure lies
inside the run's interval is said by comparing numbers, never by a test: the published figure has an error of its own.
Refuses to know how it is shown: `published_tables.py` shows it on the page, `commands/verdict_tables.py` on the
console.
"""

from typing import Literal, NamedTuple

from limbeck.recipe import Recipe
from limbeck.recipe.published import Published, PublishedRow
from limbeck.recipe.verdict import AGAINST
from limbeck.records import Estimate
from limbeck.records.verdict import Comparison, Verdict
from limbeck.stages.report.results import baseline_of
from limbeck.statistics import Ties, proportion

Place = Literal["inside", "above", "below"]
_NOTHING = PublishedRow()
_OTHER: dict[Ties, Ties] = {"half": "loss", "loss": "half"}


class Beside(NamedTuple):
    """A published number, its own interval where that is known, and ours where this run has one."""

    published: float | None
    interval: Estimate | None
    ours: Estimate | None

    @property
    def place(self) -> Place | None:
        """Where the published number lies, seen from our interval; None where one of the two is missing."""
        if self.published is None or self.ours is None:
            return None
        if self.ours.low <= self.published <= self.ours.high:
            return "inside"
        return "above" if self.published > self.ours.high else "below"


class Row(NamedTuple):
    """One model. `win_rate` counts ties as the published one does, `other_ties` the other way."""

    model: str
    win_rate: Beside
    other_ties: Estimate | None
    against: Beside
    reward: Beside
    comparison: Comparison | None
    note: str


class Rows(NamedTuple):
    """All rows, and whom, how and by which judge they are compared. `reward_judge`: whose rewards are averaged."""

    published: Published
    rows: tuple[Row, ...]
    baseline: str
    judge: str
    reward_judge: str | None
    confidence: float

    @property
    def has_against(self) -> bool:
        """Whether anything is known of somebody else's responses."""
        return any(row.against.published is not None or row.against.ours is not None for row in self.rows)

    @property
    def has_reward(self) -> bool:
        """Whether any mean reward is known."""
        return any(row.reward.published is not None or row.reward.ours is not None for row in self.rows)

    @property
    def other_ties(self) -> Ties:
        """The way of counting ties that was not published."""
        return _OTHER[self.published.ties]


def rows_of(recipe: Recipe, verdict: Verdict) -> Rows | None:
    """The published rows beside the run's; None where the recipe has no section `published`."""
    published = recipe.published
    if published is None:
        return None
    judge, baseline = recipe.judged_by()[0], baseline_of(verdict)
    models = [*published.table, *(arm for arm in recipe.arms if arm not in published.table)]
    rows = tuple(_row(model, published, verdict, judge, baseline) for model in models)
    rewarding = (name for name in recipe.judged_by() if name in ("nemotron", "local"))
    return Rows(published, rows, baseline, judge, next(rewarding, None), verdict.confidence)


def _row(model: str, published: Published, verdict: Verdict, judge: str, baseline: str) -> Row:
    theirs, ties = published.table.get(model, _NOTHING), published.ties
    found = _comparison(verdict, model, baseline, judge)
    given = _comparison(verdict, model, AGAINST, judge)
    score = next((score for score in verdict.scores if score.model == model), None)
    return Row(
        model,
        Beside(theirs.win_rate, _interval(theirs.win_rate, published, verdict), win_rate_by(found, ties, verdict)),
        win_rate_by(found, _OTHER[ties], verdict),
        Beside(
            theirs.win_rate_against,
            _interval(theirs.win_rate_against, published, verdict),
            win_rate_by(given, ties, verdict),
        ),
        Beside(theirs.average_reward, None, score.mean_reward if score else None),
        found,
        theirs.note or "",
    )


def _comparison(verdict: Verdict, candidate: str, baseline: str, judge: str) -> Comparison | None:
    found = (c for c in verdict.comparisons if (c.candidate, c.baseline, c.judge) == (candidate, baseline, judge))
    return next((c for c in found if c.split == "test"), None)


def win_rate_by(comparison: Comparison | None, ties: Ties, verdict: Verdict) -> Estimate | None:
    """The win rate of a comparison where a tie counts as `ties` says; None where the verdict does not hold it."""
    if comparison is None:
        return None
    return comparison.win_rate if ties == verdict.ties else comparison.win_rate_other_ties


def _interval(rate: float | None, published: Published, verdict: Verdict) -> Estimate | None:
    """The interval of a published rate over so many prompts; with ties at one half it is a little too wide."""
    if rate is None or published.prompts is None:
        return None
    found = proportion(round(rate * published.prompts), published.prompts, verdict.confidence)
    return Estimate(**found._asdict())
