"""Two sides on the same rows: symmetry, ties, unscored rows, several samples a prompt, a null run."""

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.records.verdict import Comparison
from limbeck.stages.verdict.paired import Named, PairedRows, Scores, Terms, compare
from limbeck.stages.verdict.wording import only_by_length

TERMS = Terms(seed=3, resamples=400)
NAMED = Named("a", "sft", "judge")


def rows(before: Scores, after: Scores, samples: int = 1, *, exact: bool = False, lengths: bool = True) -> PairedRows:
    """`samples` rows to each prompt, in the order given; the longer text is always the candidate's."""
    known = [10.0 + at % 7 for at in range(len(before))]
    unknown: list[float | None] = [None] * len(before)
    return PairedRows(
        baseline=before,
        candidate=after,
        baseline_lengths=known if lengths else unknown,
        candidate_lengths=[length + at % 3 for at, length in enumerate(known)] if lengths else unknown,
        prompts=[at // samples for at in range(len(before))],
        topics=["even" if (at // samples) % 2 == 0 else "odd" for at in range(len(before))],
        exact=exact,
    )


def swapped(found: PairedRows) -> PairedRows:
    return replace(found, baseline=found.candidate, candidate=found.baseline,
                   baseline_lengths=found.candidate_lengths, candidate_lengths=found.baseline_lengths)  # fmt: skip


def compared(found: PairedRows, terms: Terms = TERMS, *, by_topic: bool = False) -> Comparison:
    comparison = compare(found, NAMED, terms, by_topic=by_topic)
    assert comparison is not None
    return comparison


score = st.one_of(st.none(), st.sampled_from([-2.5, -1.0, 0.0, 0.5, 3.0]))
judged = st.lists(st.tuples(score, score), min_size=1, max_size=24).filter(
    lambda found: any(b is not None and a is not None for b, a in found)
)


@settings(max_examples=60, deadline=None)
@given(judged, st.integers(1, 3))
def test_counts_and_rates_are_those_of_the_slow_form_and_swapping_turns_them_round(
    found: list[tuple[float | None, float | None]], samples: int
) -> None:
    before, after = [b for b, _ in found], [a for _, a in found]
    there = compared(rows(before, after, samples))
    back = compared(swapped(rows(before, after, samples)))
    both = [(b, a) for b, a in found if b is not None and a is not None]
    assert there.wins == sum(a > b for b, a in both)
    assert there.ties == sum(a == b for b, a in both)
    assert there.losses == sum(a < b for b, a in both)
    assert there.unscored == len(found) - len(both)
    assert there.win_rate.estimate == pytest.approx((there.wins + there.ties / 2) / len(both))
    assert there.difference.estimate == pytest.approx(sum(a - b for b, a in both) / len(both))
    assert there.win_rate.n == len({at // samples for at, (b, a) in enumerate(found) if None not in (b, a)})
    assert (back.wins, back.ties, back.losses) == (there.losses, there.ties, there.wins)
    assert back.win_rate.estimate == pytest.approx(1 - there.win_rate.estimate)
    assert back.difference.estimate == pytest.approx(-there.difference.estimate)
    assert (back.difference.low, back.difference.high) == pytest.approx((-there.difference.high, -there.difference.low))
    assert back.p_value == pytest.approx(there.p_value)
    assert there.length_controlled_win_rate is not None
    assert back.length_controlled_win_rate is not None
    assert back.length_controlled_win_rate.estimate == pytest.approx(
        1 - there.length_controlled_win_rate.estimate, abs=1e-6
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 2.0]), min_size=1, max_size=20), st.integers(1, 3))
def test_a_side_against_itself_is_half_and_surely_chance(found: list[float], samples: int) -> None:
    same = compared(rows(found, found, samples))
    assert (same.win_rate.estimate, same.win_rate.low, same.win_rate.high) == (0.5, 0.5, 0.5)
    assert (same.difference.estimate, same.p_value, same.p_value_permutation) == (0.0, 1.0, 1.0)
    assert same.wins == same.losses == 0
    assert compared(rows(found, found, samples), replace(TERMS, ties="loss")).win_rate.estimate == 0.0


def test_where_no_row_is_scored_on_both_sides_there_is_no_comparison() -> None:
    assert compare(rows([None, 1.0], [1.0, None]), NAMED, TERMS) is None
    assert compare(rows([], []), NAMED, TERMS) is None


def test_the_test_is_named_and_fits_the_judgements() -> None:
    before, after = [0.0] * 6, [1.0] * 6
    assert compared(rows(before, after, exact=True)).test == "McNemar, exact"
    assert compared(rows(before, after, exact=True)).p_value == pytest.approx(2 / 2**6)
    several = compared(rows(before, after, 3, exact=True))  # two prompts, both better: 2 of 2 signs
    assert several.test == "paired permutation over prompts"
    assert several.p_value == several.p_value_permutation == pytest.approx(2 / 2**2)
    rewards = compared(rows(before, after, 3))
    assert (rewards.test, rewards.p_value) == ("sign test, exact", pytest.approx(2 / 2**2))


def test_the_sign_test_counts_what_a_prompts_samples_win_and_not_how_far() -> None:
    before, after = [0.0] * 6, [1.0, 1.0, -9.0] * 2  # each of two prompts wins twice and loses once, by far
    found = compared(rows(before, after, 3))
    assert found.difference.estimate < 0
    assert found.wins > found.losses
    assert found.p_value == pytest.approx(2 / 2**2)  # both prompts are won


def test_copies_of_a_sample_are_no_further_evidence() -> None:
    rng = random.Random(5)
    before = [float(rng.random() < 0.4) for _ in range(60)]
    after = [float(rng.random() < 0.6) for _ in range(60)]
    once = compared(rows(before, after, exact=True))
    fourfold = compared(
        rows([b for b in before for _ in range(4)], [a for a in after for _ in range(4)], 4, exact=True)
    )
    assert fourfold.difference == once.difference
    assert fourfold.win_rate == once.win_rate
    assert fourfold.p_value == pytest.approx(once.p_value_permutation)
    assert once.minimum_detectable_difference is not None
    assert fourfold.minimum_detectable_difference == pytest.approx(once.minimum_detectable_difference, rel=0.15)


def test_more_samples_of_a_prompt_sharpen_the_figures() -> None:
    rng = random.Random(8)
    skill = [rng.random() for _ in range(80)]
    drawn = [[float(rng.random() < s) for _ in range(8)] for s in skill for _ in range(2)]
    before, after = drawn[::2], drawn[1::2]
    one = compared(rows([b[0] for b in before], [a[0] for a in after], exact=True))
    eight = compared(rows([x for b in before for x in b], [x for a in after for x in a], 8, exact=True))
    assert eight.difference.n == one.difference.n == 80
    assert eight.difference.high - eight.difference.low < 0.7 * (one.difference.high - one.difference.low)
    assert one.minimum_detectable_difference is not None
    assert eight.minimum_detectable_difference is not None
    assert eight.minimum_detectable_difference < 0.7 * one.minimum_detectable_difference


def test_the_detectable_difference_is_the_textbooks_and_grows_with_the_family() -> None:
    before, after = [0.0] * 100, [1.0] * 15 + [0.0] * 85
    rewards = compared(rows(before, after))
    mean = 0.15
    sd = math.sqrt((15 * (1 - mean) ** 2 + 85 * mean**2) / 99)
    assert rewards.minimum_detectable_difference == pytest.approx((1.959964 + 0.841621) * sd / 10, rel=1e-5)
    four = compared(rows(before, after), replace(TERMS, family=4))
    assert four.minimum_detectable_difference == pytest.approx((2.497705 + 0.841621) * sd / 10, rel=1e-5)
    solved = compared(rows(before, after, exact=True))
    assert solved.minimum_detectable_difference is not None
    assert solved.minimum_detectable_win_rate == pytest.approx(solved.minimum_detectable_difference / 2)


def test_a_win_by_length_alone_is_gone_at_equal_lengths() -> None:
    rng = random.Random(2)
    longer = [rng.choice([-30, -10, 10, 30, 50]) for _ in range(400)]
    won = [1.0 if rng.random() < 1 / (1 + math.exp(-extra / 10)) else -1.0 for extra in longer]
    found = rows([0.0] * 400, won)
    found = replace(found, baseline_lengths=[100.0] * 400, candidate_lengths=[100.0 + extra for extra in longer])
    by_length = compared(found)
    assert by_length.win_rate.low > 0.5
    even = by_length.length_controlled_win_rate
    assert even is not None
    assert even.low < 0.5 < even.high
    assert compared(rows([0.0], [1.0], lengths=False)).length_controlled_win_rate is None


def test_a_side_that_always_wins_with_longer_replies_may_win_by_length_alone() -> None:
    always = rows([0.0] * 60, [1.0] * 60)
    assert not only_by_length(compared(always))  # every third reply is no longer than the other
    longer = replace(always, candidate_lengths=[40.0] * 60)
    assert only_by_length(compared(longer))
    assert only_by_length(compared(swapped(longer)))


def test_topics_add_up_to_the_whole() -> None:
    rng = random.Random(4)
    scores: list[list[float | None]] = [[rng.choice([None, 0.0, 1.0]) for _ in range(60)] for _ in range(2)]
    whole = compared(rows(scores[0], scores[1], 2), by_topic=True)
    assert [topic.topic for topic in whole.by_topic] == ["even", "odd"]
    for count in ("wins", "ties", "losses"):
        assert sum(getattr(topic, count) for topic in whole.by_topic) == getattr(whole, count)
    sizes = [topic.wins + topic.ties + topic.losses for topic in whole.by_topic]
    weighted = sum(size * topic.difference.estimate for size, topic in zip(sizes, whole.by_topic, strict=True))
    assert weighted / sum(sizes) == pytest.approx(whole.difference.estimate)


def null_run(rng: random.Random, samples: int, kind: str) -> PairedRows:
    """One model asked twice under different seeds: prompts differ in how hard they are, the two sides in nothing."""
    before: list[float | None] = []
    after: list[float | None] = []
    for _ in range(60):
        level = rng.gauss(0, 1)
        for _ in range(samples):
            for side in (before, after):
                reward = level + rng.gauss(0, 1)
                side.append(float(reward > 0) if kind == "solved" else reward)
    return rows(before, after, samples, exact=kind == "solved", lengths=False)


@pytest.mark.parametrize("kind", ["solved", "reward"])
@pytest.mark.parametrize("samples", [1, 4])
def test_a_null_run_is_seldom_taken_for_a_difference(kind: str, samples: int) -> None:
    rng = random.Random(f"{kind} {samples}")
    terms = Terms(seed=1, resamples=300)
    counted: dict[str, int] = defaultdict(int)
    runs = 300
    for _ in range(runs):
        found = compared(null_run(rng, samples, kind), terms)
        counted["test"] += found.p_value < 0.05
        assert found.p_value_permutation is not None
        counted["permutation"] += found.p_value_permutation < 0.05
        counted["interval"] += not found.difference.low <= 0 <= found.difference.high
    most = 0.05 * runs + 3 * math.sqrt(runs * 0.05 * 0.95)  # three standard errors: 26 of 300
    assert counted["test"] <= most
    assert counted["permutation"] <= most
    assert counted["interval"] <= most + 0.02 * runs  # percentile intervals of 60 prompts are a little short


def test_counting_samples_as_prompts_would_take_a_null_run_for_a_difference_too_often() -> None:
    """The fault that clustering prevents, made on purpose: prompts that one side happens to like, asked eight times."""
    rng = random.Random(6)
    fooled = {True: 0, False: 0}
    for _ in range(150):
        liking = [rng.gauss(0, 1) for _ in range(30)]
        after: list[float | None] = [like + rng.gauss(0, 1) for like in liking for _ in range(8)]
        before: list[float | None] = [0.0] * len(after)
        clustered = rows(before, after, 8, lengths=False)
        for by_prompt in (True, False):
            judged_rows = clustered if by_prompt else replace(clustered, prompts=list(range(240)))
            fooled[by_prompt] += compared(judged_rows, Terms(seed=1, resamples=200)).p_value < 0.05
    assert fooled[True] <= 0.05 * 150 + 8
    assert fooled[False] >= 0.2 * 150


def test_strata_hold_the_number_of_prompts_of_each_seed() -> None:
    before: Sequence[float] = [0.0] * 40
    after = [1.0] * 20 + [0.0] * 20  # one seed wins everything, the other nothing
    free = compared(rows(before, after))
    held = compared(replace(rows(before, after), strata=[0] * 20 + [1] * 20))
    assert held.difference.low == held.difference.high == held.difference.estimate == 0.5
    assert free.difference.low < 0.4


def test_the_win_rate_is_there_under_both_ways_of_counting_ties() -> None:
    # Hand-derived: of 4 rows 1 is won, 2 are tied, 1 is lost: (1 + 2/2)/4 and 1/4.
    four = rows([0.0, 1.0, 1.0, 2.0], [1.0, 1.0, 1.0, 0.0])
    half, loss = compare(four, NAMED, TERMS), compare(four, NAMED, replace(TERMS, ties="loss"))
    assert half is not None and loss is not None
    assert (half.win_rate.estimate, loss.win_rate.estimate) == (0.5, 0.25)
    assert (half.win_rate_other_ties, loss.win_rate_other_ties) == (loss.win_rate, half.win_rate)  # intervals too


def test_without_ties_both_ways_of_counting_them_are_one() -> None:
    found = compare(rows([0.0, 1.0, 1.0], [1.0, 2.0, 0.0]), NAMED, TERMS)
    assert found is not None and found.win_rate_other_ties == found.win_rate
