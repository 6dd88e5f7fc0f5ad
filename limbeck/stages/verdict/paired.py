"""Two sides on the same rows: difference, win rate, what could be chance, and what could not have been seen.

Pure: columns in, a `Comparison` out. A row is one sample of one prompt. Everything resamples prompts, so that several
samples of a prompt are one piece of evidence. Refuses to know where the columns come from.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from limbeck.records import Estimate, HeldOutSplit
from limbeck.records.verdict import Comparison, TopicResult
from limbeck.statistics import (
    Ties,
    WinRate,
    length_controlled_win_rate,
    mcnemar_exact,
    minimum_detectable_difference,
    minimum_detectable_win_rate,
    paired_difference,
    paired_permutation,
    sd_by_prompt,
    sign_test,
    win_rate,
)

Scores = Sequence[float | None]


@dataclass(frozen=True)
class PairedRows:
    """What one judge says of two sides, one entry a row in every column; a score of None is unscored.

    `prompts` names each row's prompt, `strata` what resampling keeps apart (seeds), `topics` what tables are broken
    down by. Lengths are in characters, None where the text is not known. `exact`: scores are 1 (solved) or 0.
    """

    baseline: Scores
    candidate: Scores
    baseline_lengths: Scores
    candidate_lengths: Scores
    prompts: Sequence[Hashable]
    topics: Sequence[str]
    exact: bool = False
    strata: Sequence[Hashable] | None = None

    def scored(self) -> "PairedRows":
        """The rows that both sides are scored on."""
        pairs = zip(self.baseline, self.candidate, strict=True)
        return self.taken([at for at, (before, after) in enumerate(pairs) if before is not None and after is not None])

    def of_topic(self, topic: str) -> "PairedRows":
        """The rows of one topic."""
        return self.taken([at for at, each in enumerate(self.topics) if each == topic])

    def taken(self, at: Sequence[int]) -> "PairedRows":
        """The rows at these places."""
        return PairedRows(
            baseline=[self.baseline[row] for row in at],
            candidate=[self.candidate[row] for row in at],
            baseline_lengths=[self.baseline_lengths[row] for row in at],
            candidate_lengths=[self.candidate_lengths[row] for row in at],
            prompts=[self.prompts[row] for row in at],
            topics=[self.topics[row] for row in at],
            exact=self.exact,
            strata=None if self.strata is None else [self.strata[row] for row in at],
        )

    @property
    def one_row_a_prompt(self) -> bool:
        """Whether rows are independent of each other."""
        return len(set(self.prompts)) == len(self.prompts)


@dataclass(frozen=True)
class Terms:
    """On what terms sides are compared. `family`: how many comparisons share alpha."""

    seed: int
    ties: Literal["half", "loss"] = "half"
    confidence: float = 0.95
    family: int = 1
    resamples: int = 10_000

    @property
    def alpha_each(self) -> float:
        """What one comparison of the family has of alpha (Bonferroni; Holm's correction shows at least as much)."""
        return (1 - self.confidence) / max(self.family, 1)


class Named(NamedTuple):
    """Who is compared with whom, by which judge, on which prompts."""

    candidate: str
    baseline: str
    judge: str
    split: HeldOutSplit = "test"


def compare(rows: PairedRows, named: Named, terms: Terms, *, by_topic: bool = False) -> Comparison | None:
    """Compare two sides; None where no row is scored on both. `p_value_holm` is left for the family to correct."""
    both = rows.scored()
    if not both.prompts:
        return None
    before, after = _numbers(both.baseline), _numbers(both.candidate)
    wins = _win_rate(rows, terms, terms.ties)
    other = _win_rate(rows, terms, "half" if terms.ties == "loss" else "loss") if wins.ties else wins
    tested = _test(both, terms)
    return Comparison(
        candidate=named.candidate,
        baseline=named.baseline,
        judge=named.judge,
        split=named.split,
        difference=difference_of(both, terms),
        win_rate=_estimate(wins),
        win_rate_other_ties=_estimate(other),
        length_controlled_win_rate=_length_controlled(both, terms),
        wins=wins.wins,
        ties=wins.ties,
        losses=wins.losses,
        unscored=wins.unscored,
        test=tested.name,
        p_value=tested.p_value,
        p_value_permutation=tested.by_permutation,
        p_value_holm=tested.p_value,
        minimum_detectable_difference=_detectable(before, after, both, terms),
        minimum_detectable_win_rate=_detectable_rate(before, after, both, terms),
        by_topic=_by_topic(rows, terms) if by_topic else (),
    )


def _win_rate(rows: PairedRows, terms: Terms, ties: Ties) -> WinRate:
    return win_rate(
        rows.baseline, rows.candidate, seed=terms.seed, ties=ties, strata=rows.strata, clusters=rows.prompts,
        resamples=terms.resamples, confidence=terms.confidence,
    )  # fmt: skip


def _estimate(found: WinRate) -> Estimate:
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.num_prompts)


def difference_of(both: PairedRows, terms: Terms) -> Estimate:
    """The mean of candidate minus baseline over rows that are scored on both sides."""
    found = paired_difference(
        _numbers(both.baseline), _numbers(both.candidate), seed=terms.seed, strata=both.strata, clusters=both.prompts,
        resamples=terms.resamples, confidence=terms.confidence,
    )  # fmt: skip
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.num_prompts)


class _Tested(NamedTuple):
    name: str
    p_value: float
    by_permutation: float


def _test(both: PairedRows, terms: Terms) -> _Tested:
    """McNemar's test for solved or not, the sign test for rewards; of both, what clustering by prompt leaves of them.

    McNemar's test counts rows, so where prompts have several the permutation test stands in for it.
    """
    before, after = _numbers(both.baseline), _numbers(both.candidate)
    flipped = paired_permutation(before, after, seed=terms.seed, clusters=both.prompts, resamples=terms.resamples)
    if both.exact and not both.one_row_a_prompt:
        return _Tested("paired permutation over prompts", flipped, flipped)
    if both.exact:
        return _Tested("McNemar, exact", mcnemar_exact(before, after).p_value, flipped)
    # The sign of what a prompt's rows win, not of what their rewards add up to: the test belongs to the win rate.
    signs = [float(sign_of(a - b)) for b, a in zip(before, after, strict=True)]
    found = sign_test([0.0] * len(signs), signs, clusters=both.prompts)
    return _Tested("sign test, exact", found.p_value, flipped)


def sign_of(value: float) -> int:
    """1, 0 or -1."""
    return (value > 0) - (value < 0)


def _length_controlled(both: PairedRows, terms: Terms) -> Estimate | None:
    """Ties are half a win here whatever the recipe counts them as: at equal lengths 1/2 must mean no difference."""
    if None in both.baseline_lengths or None in both.candidate_lengths:
        return None
    found = length_controlled_win_rate(
        both.baseline, both.candidate, _numbers(both.baseline_lengths), _numbers(both.candidate_lengths),
        seed=terms.seed, strata=both.strata, clusters=None if both.one_row_a_prompt else both.prompts,
        resamples=terms.resamples, confidence=terms.confidence,
    )  # fmt: skip
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.num_prompts)


def _detectable(before: Sequence[float], after: Sequence[float], both: PairedRows, terms: Terms) -> float | None:
    if both.exact and both.one_row_a_prompt:
        discordant = sum(a != b for b, a in zip(before, after, strict=True)) / len(before)
        return minimum_detectable_difference(len(before), discordant_rate=discordant, alpha=terms.alpha_each)
    return _by_spread(before, after, both, terms)


def _detectable_rate(before: Sequence[float], after: Sequence[float], both: PairedRows, terms: Terms) -> float | None:
    if both.one_row_a_prompt:
        tied = sum(a == b for b, a in zip(before, after, strict=True)) / len(before)
        return minimum_detectable_win_rate(len(before), tie_rate=tied, alpha=terms.alpha_each)
    points = [(1 + sign_of(a - b)) / 2 for b, a in zip(before, after, strict=True)]
    return _by_spread([0.5] * len(points), points, both, terms)


def _by_spread(before: Sequence[float], after: Sequence[float], both: PairedRows, terms: Terms) -> float | None:
    sd = sd_by_prompt(before, after, both.prompts)
    return None if sd is None else minimum_detectable_difference(len(set(both.prompts)), sd=sd, alpha=terms.alpha_each)


def _by_topic(rows: PairedRows, terms: Terms) -> tuple[TopicResult, ...]:
    return tuple(
        TopicResult(
            topic=topic,
            wins=sum(sign > 0 for sign in signs),
            ties=sum(sign == 0 for sign in signs),
            losses=sum(sign < 0 for sign in signs),
            difference=difference_of(both, terms),
        )
        for topic in sorted(set(rows.topics))
        if (both := rows.of_topic(topic).scored()).prompts
        and (signs := [sign_of(a - b) for b, a in zip(_numbers(both.baseline), _numbers(both.candidate), strict=True)])
    )


def _numbers(scores: Scores) -> list[float]:
    """Scores that are all there; a missing one would be NaN, which every statistic refuses."""
    return [math.nan if score is None else score for score in scores]
