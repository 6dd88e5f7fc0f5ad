"""Agreement of judges: kappa against published values and its published error, order effects by hand, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.statistics import judge_agreement, order_effects, proportion
from limbeck.statistics.agreement import Outcome, Position

NAMES: tuple[Outcome, ...] = ("win", "tie", "loss")
FLEISS = [[75, 1, 4], [5, 4, 1], [0, 0, 10]]  # Fleiss 1981, "Statistical Methods for Rates and Proportions", table 13.1


def labels_of(table: list[list[int]]) -> list[list[Outcome | None]]:
    """The labels of two judges whose table of counts this is."""
    pairs = [(NAMES[i], NAMES[j]) for i in range(3) for j in range(3) for _ in range(table[i][j])]
    return [[a for a, _ in pairs], [b for _, b in pairs]]


def test_kappa_is_that_of_published_tables() -> None:
    found = judge_agreement(*labels_of(FLEISS), seed=0)
    assert found.kappa == pytest.approx(0.676, abs=5e-4)  # published: .68, from .89 observed and .66 by chance
    assert found.counts == tuple(tuple(line) for line in FLEISS)
    alone = proportion(89, 100)
    assert (found.raw.estimate, found.raw.low, found.raw.high) == (alone.estimate, alone.low, alone.high)
    # Two labels only: agreement .7, chance .5 x .6 + .5 x .4.
    assert judge_agreement(*labels_of([[20, 0, 5], [0, 0, 0], [10, 0, 15]]), seed=0).kappa == pytest.approx(0.4)


def test_the_bootstraps_width_is_that_of_the_published_standard_error() -> None:
    # Fleiss, Cohen and Everitt 1969, equation 13, written out.
    shares = np.array(FLEISS) / 100
    rows, columns, agreed = shares.sum(axis=1), shares.sum(axis=0), np.trace(shares)
    chance = rows @ columns
    kappa = (agreed - chance) / (1 - chance)
    first = sum(shares[i, i] * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2 for i in range(3))
    second = (1 - kappa) ** 2 * sum(
        shares[i, j] * (columns[i] + rows[j]) ** 2 for i in range(3) for j in range(3) if i != j
    )
    third = (kappa - chance * (1 - kappa)) ** 2
    standard_error = ((first + second - third) / 100) ** 0.5 / (1 - chance)
    found = judge_agreement(*labels_of(FLEISS), seed=0)
    assert found.kappa_low is not None
    assert found.kappa_high is not None
    assert (found.kappa_high - found.kappa_low) / (2 * 1.96) == pytest.approx(standard_error, rel=0.05)


label = st.sampled_from([*NAMES, None])


@given(rows=st.lists(st.tuples(label, label), min_size=1, max_size=40).filter(lambda r: any(None not in p for p in r)))
@settings(max_examples=60, deadline=None)
def test_agreement_is_the_same_from_both_sides_and_counts_what_it_leaves_out(rows: list[tuple[str, str]]) -> None:
    first, second = zip(*rows, strict=True)
    found = judge_agreement(first, second, seed=1, resamples=50)
    other = judge_agreement(second, first, seed=1, resamples=50)
    assert found.kappa == (None if other.kappa is None else pytest.approx(other.kappa))
    assert found.raw == other.raw
    assert sum(map(sum, found.counts)) + found.unscored == len(rows)


def test_judges_that_say_one_thing_only_have_no_kappa() -> None:
    found = judge_agreement(["win"] * 9, ["win"] * 9, seed=0)
    assert (found.kappa, found.kappa_low, found.kappa_high, found.raw.estimate) == (None, None, None, 1.0)
    assert judge_agreement(["win"] * 9, ["loss"] * 9, seed=0).kappa == pytest.approx(0.0)


def test_several_rows_of_a_prompt_widen_both_intervals() -> None:
    first, second = (labels * 4 for labels in labels_of(FLEISS))
    prompts = list(range(100)) * 4
    alone, clustered = (judge_agreement(first, second, seed=0, clusters=names) for names in (None, prompts))
    assert clustered.kappa == alone.kappa
    assert (clustered.kappa_high - clustered.kappa_low) / (alone.kappa_high - alone.kappa_low) == pytest.approx(2, 0.1)
    assert clustered.raw.num_prompts == 100
    assert clustered.raw.high - clustered.raw.low > 1.8 * (alone.raw.high - alone.raw.low)


def test_order_effects_by_hand() -> None:
    # Kept both ways: 2 (one each way), tie and tie: 1, first both times: 2, second both times: 1, tie once: 1.
    shown_first: list[Position | None] = ["first", "second", "tie", "first", "first", "second", "tie", None]
    shown_second: list[Position | None] = ["second", "first", "tie", "first", "first", "second", "first", "first"]
    found = order_effects(shown_first, shown_second)
    assert found.flips == proportion(4, 7)
    assert found.reversals == proportion(3, 7)
    assert found.first is not None
    assert found.first.estimate == 7 / 11  # of the 14 answers 11 name one, 7 the first
    assert (found.first.num_prompts, found.unscored) == (6, 1)


def test_a_judge_that_looks_at_order_alone_flips_always_and_one_that_ties_never_names_a_place() -> None:
    biased = order_effects(["first"] * 30, ["first"] * 30)
    assert biased.first is not None
    assert (biased.flips.estimate, biased.reversals.estimate, biased.first.estimate) == (1.0, 1.0, 1.0)
    undecided = order_effects(["tie"] * 30, ["tie"] * 30)
    assert (undecided.flips.estimate, undecided.first) == (0.0, None)


def test_labels_without_an_answer_are_refused() -> None:
    with pytest.raises(InputError, match="None of 2 rows is judged by both"):
        judge_agreement(["win", None], [None, "win"], seed=0)
    with pytest.raises(InputError, match="'won' is not an outcome; it must be one of win, tie, loss"):
        judge_agreement(["won"], ["win"], seed=0)
    with pytest.raises(InputError, match="same rows: there are 1 and 2"):
        judge_agreement(["win"], ["win", "tie"], seed=0)
    with pytest.raises(InputError, match="None of 1 pairs"):
        order_effects([None], ["first"])
    with pytest.raises(InputError, match="'a' is not an outcome"):
        order_effects(["a"], ["first"])
    with pytest.raises(InputError, match="1 and 2"):
        order_effects(["first"], ["first", "tie"])
