"""Judges measured: accuracy beside the longer-is-chosen rule, and calibration, by hand and at their ends."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.statistics import (
    calibration,
    judge_accuracy,
    length_accuracy,
    paired_difference,
    proportion,
)


def test_a_judge_and_the_longer_is_chosen_rule_by_hand() -> None:
    # The judge is right on three, undecided on one; the longer is chosen in one of four, one has equal lengths.
    found = judge_accuracy([2.0, 0.5, 0.0, 1.0], [10, 10, 10, 10], [20, 5, 10, 11], seed=0)
    assert (found.judge.estimate, found.longer.estimate, found.difference.estimate) == (3.5 / 4, 1.5 / 4, 2 / 4)
    assert (found.judge_ties, found.longer_ties) == (1 / 4, 1 / 4)
    assert found.longer == length_accuracy([10, 10, 10, 10], [20, 5, 10, 11])
    expected = paired_difference([0, 1, 0.5, 0], [1, 1, 0.5, 1], seed=0)
    assert found.difference == expected


def test_a_judge_that_counts_words_is_no_better_than_counting_words() -> None:
    chosen, rejected = np.random.default_rng(0).integers(1, 300, (2, 400))
    found = judge_accuracy((chosen - rejected) / 100, chosen, rejected, seed=0)
    assert found.judge == found.longer
    assert (found.difference.estimate, found.difference.low, found.difference.high) == (0.0, 0.0, 0.0)


def test_pairs_of_one_prompt_are_one_piece_of_evidence() -> None:
    margins, prompts = np.repeat([1.0, -1.0] * 50, 4), np.repeat(np.arange(100), 4).tolist()
    found = judge_accuracy(margins, margins + 5, [5] * 400, seed=0, clusters=prompts)
    alone = proportion(50, 100)
    assert found.judge.low == pytest.approx(alone.low, abs=0.002)
    assert (found.judge.num_prompts, found.judge.num_rows) == (100, 400)


def test_calibration_by_hand() -> None:
    # sigmoid(ln 4) = 0.8: four pairs, three right; sigmoid(ln 1.5) = 0.6: two pairs, one right; margin 0: half right.
    sure, unsure = math.log(4), math.log(1.5)
    found = calibration([sure, sure, sure, -sure, unsure, -unsure, 0.0], num_bins=5)
    assert [b.num_pairs for b in found.bins] == [1, 2, 0, 4, 0]  # from 0.5, 0.6, 0.7, 0.8 and 0.9 on
    assert [b.confidence for b in found.bins] == [
        pytest.approx(0.5), pytest.approx(0.6), None, pytest.approx(0.8), None,
    ]  # fmt: skip
    assert found.expected_error == pytest.approx((4 * 0.05 + 2 * 0.1 + 1 * 0.0) / 7)
    log_losses = 3 * math.log(1 / 0.8) + math.log(1 / 0.2) + math.log(1 / 0.6) + math.log(1 / 0.4) + math.log(2)
    assert found.log_loss == pytest.approx(log_losses / 7)
    assert found.brier == pytest.approx((3 * 0.04 + 0.64 + 0.16 + 0.36 + 0.25) / 7)
    top = found.bins[3].accuracy
    assert top is not None
    assert top == proportion(3, 4)


@given(margins=st.lists(st.floats(-40, 40), min_size=1, max_size=50))
@settings(max_examples=60, deadline=None)
def test_every_pair_is_in_one_bin_and_the_error_is_at_most_one(margins: list[float]) -> None:
    found = calibration(margins)
    assert sum(b.num_pairs for b in found.bins) == len(margins)
    for each in found.bins:
        if each.confidence is not None:
            assert each.low - 1e-12 <= each.confidence <= each.high + 1e-12
    assert 0.0 <= found.expected_error <= 1.0
    assert 0.0 <= found.brier <= 1.0


def test_margins_that_mean_what_they_say_have_next_to_no_error_and_doubled_ones_have() -> None:
    generator = np.random.default_rng(1)
    margins = np.abs(generator.normal(0, 1.5, 20_000))
    signed = np.where(generator.random(20_000) < 1 / (1 + np.exp(-margins)), margins, -margins)
    assert calibration(signed).expected_error < 0.015
    assert calibration(3 * signed).expected_error > 0.1
    assert calibration(3 * signed).log_loss > calibration(signed).log_loss


def test_a_judge_that_knows_nothing_has_the_log_loss_and_brier_of_a_coin() -> None:
    found = calibration([0.0] * 10)
    assert (found.log_loss, found.brier, found.expected_error) == (pytest.approx(math.log(2)), 0.25, 0.0)


def test_pairs_that_cannot_be_measured_are_refused() -> None:
    with pytest.raises(InputError, match="Pair 1 has the margin nan"):
        calibration([0.0, math.nan])
    with pytest.raises(InputError, match="no margin"):
        judge_accuracy([], [], [], seed=0)
    with pytest.raises(InputError, match="2, 2 and 1"):
        judge_accuracy([1.0, 2.0], [1, 2], [1], seed=0)
    with pytest.raises(InputError, match="num_bins"):
        calibration([1.0], num_bins=0)


def test_a_hundred_thousand_pairs_take_less_than_a_second() -> None:
    generator = np.random.default_rng(0)
    margins, lengths = generator.normal(size=100_000), generator.integers(1, 500, (2, 100_000))
    start = time.process_time()
    judge_accuracy(margins, *lengths, seed=0)
    calibration(margins)
    assert time.process_time() - start < 1.0
