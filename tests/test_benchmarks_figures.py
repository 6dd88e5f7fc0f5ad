"""What the benchmarks compute from runs: operations counted by hand, ratios, lines, differences."""

from pathlib import Path

import pytest
from tiny_models import plain_model

from benchmarks.compare import AS_IT_COMES, BEST, LIMBECK
from benchmarks.contract import Outcome
from benchmarks.dpo import headlines, share_of_peak, summarise
from benchmarks.flops import Sizes, forward_flops, sizes_of, training_flops
from benchmarks.logps import summarise as compare_logps
from benchmarks.models import TINY, random_model
from benchmarks.summary import cliff, differences, fit_line, median_ratio, over_whole_batch
from benchmarks.sweep import summarise as summarise_sweep
from benchmarks.workload import Row

SIZES = Sizes(body_weights=100, head_weights=70, layers=2, heads=3, head_size=5)
PAIR = Row("pair", [1, 2, 3], [[4, 5], [6]])  # prompt 3, chosen 2, rejected 1


def test_operations_of_a_pair_are_those_counted_by_hand() -> None:
    # Computed tokens: 3 of the prompt, 1 of chosen, none of rejected: 4 x 2 x 100 = 800.
    # Keys seen: 1 + 2 + 3 by the prompt, 4 by chosen's one token. Two products, 2 x 3 x 5 each a key, 2 layers: 1200.
    # Targets: 2 + 1, 2 x 70 each: 420.
    assert forward_flops(SIZES, PAIR) == 800 + 1200 + 420


def test_a_demonstration_is_one_causal_sequence() -> None:
    # Prompt 2 and response 3 without its last: 4 tokens, which see 1 + 2 + 3 + 4 keys; 3 targets.
    row = Row("row", [1, 2], [[3, 4, 5]])
    assert forward_flops(SIZES, row) == 2 * 100 * 4 + 60 * 2 * 10 + 2 * 70 * 3


def test_a_reference_pass_costs_a_third_of_an_epoch() -> None:
    once = forward_flops(SIZES, PAIR)
    assert training_flops(SIZES, [PAIR], epochs=2, reference=False) == 6 * once
    assert training_flops(SIZES, [PAIR, PAIR], epochs=2, reference=True) == 2 * 7 * once


def test_sizes_are_read_from_the_network_with_a_tied_head_counted_once(tmp_path: Path) -> None:
    network = plain_model(random_model(tmp_path, "llama", TINY))
    # Hidden 32, 4 heads and 2 key/value heads of 8, intermediate 64: q, o 32 x 32; k, v 32 x 16; three of 32 x 64.
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64
    assert sizes_of(network) == Sizes(2 * layer, 300 * 32, 2, 4, 8)


def test_a_ratio_is_the_median_over_repetitions_that_both_finished() -> None:
    assert median_ratio({0: 6.0, 1: 8.0, 2: 9.0}, {0: 2.0, 1: 2.0, 2: 3.0}) == 3.0
    assert median_ratio({0: 6.0, 1: 8.0, 2: 9.0}, {1: 2.0}) == 4.0
    assert median_ratio({0: 6.0}, {}) is None


def test_the_ratio_of_medians_would_be_another_number() -> None:
    ours, theirs = {0: 1.0, 1: 2.0, 2: 9.0}, {0: 1.0, 1: 4.0, 2: 3.0}
    assert median_ratio(ours, theirs) == 1.0  # of 1, 1/2, 3
    assert sorted(ours.values())[1] / sorted(theirs.values())[1] == pytest.approx(2 / 3)


def test_a_straight_line_is_found_and_does_not_deviate() -> None:
    line = fit_line([1, 2, 4, 8], [5, 7, 11, 19])
    assert line.slope == pytest.approx(2)
    assert line.intercept == pytest.approx(3)
    assert line.largest_deviation == pytest.approx(0, abs=1e-12)


def test_a_point_off_the_line_counts_by_its_relative_error() -> None:
    assert fit_line([1, 2, 4, 8], [1, 2, 4, 12]).largest_deviation > 0.2


def test_a_cliff_is_the_dearest_unit_over_the_median_one() -> None:
    assert cliff([2.0, 2.0, 2.0, 5.0]) == 2.5


def test_nothing_is_said_of_the_whole_batch_where_no_trial_took_it() -> None:
    failed = {"trial": 1, "settings": {"micro_batch": None, "batch": 4}, "failed": "killed by SIGKILL"}
    small = {"trial": 2, "settings": {"micro_batch": 1, "batch": 4}, "outcome": {"seconds": 1.0}}
    assert over_whole_batch([failed, small], 2.0) is None
    whole = {"trial": 3, "settings": {"micro_batch": None, "batch": 4}, "outcome": {"seconds": 0.5}}
    assert over_whole_batch([failed, small, whole], 2.0) == 2.0  # the fastest of all: nothing to estimate
    assert over_whole_batch([whole], None) is None


def test_differences_are_absolute_and_need_the_same_rows() -> None:
    assert differences({"a": [1.0, 2.0]}, {"a": [1.5, 1.0]}) == (1.0, 0.75)
    with pytest.raises(ValueError, match="different rows"):
        differences({"a": [1.0]}, {"b": [1.0]})


def run(seconds: float, memory: int) -> Outcome:
    facts = {"model_flops": 120.0, "matmul_flops_per_second": {"bf16": 10.0, "fp32": 40.0}}
    return Outcome(seconds=seconds, rows=12, peak_memory_bytes=memory, facts=facts)


def test_headlines_of_dpo_follow_from_its_runs() -> None:
    outcomes = {
        LIMBECK: {0: run(2.0, 2), 1: run(3.0, 2)},
        AS_IT_COMES: {0: run(8.0, 4), 1: run(9.0, 5)},  # 4 and 3 times slower
        BEST: {0: run(4.0, 3)},
    }
    summary = summarise(outcomes)
    trials = [
        {"trial": n, "settings": {"micro_batch": size, "batch": 4}, "outcome": {"seconds": seconds}}
        for n, (size, seconds) in enumerate([(None, 9.0), (4, 6.0), (1, 4.0)])
    ]
    assert headlines(summary, trials) == {
        "dpo_pairs_per_second_over_trl_default": 3.5,
        "dpo_pairs_per_second_over_trl_best": 2.0,
        "dpo_pairs_per_second_over_trl_best_whole_batch": 3.0,  # 6 / 4 of that
        "peak_memory_over_trl": pytest.approx(0.45),
        "peak_memory_over_trl_best": pytest.approx(2 / 3),
        "share_of_matmul_peak": pytest.approx(1.25),  # the mean of 120 / 2 / 40 and 120 / 3 / 40
    }
    assert summary["contenders"][LIMBECK]["pairs_per_second"] == 5.0
    assert summary["contenders"][LIMBECK]["slowest_and_fastest"] == [4.0, 6.0]


def test_a_contender_that_never_finished_has_no_figures() -> None:
    summary = summarise({LIMBECK: {0: run(2.0, 2)}, AS_IT_COMES: {}})
    assert list(summary["contenders"]) == [LIMBECK]
    assert headlines(summary, [])["dpo_pairs_per_second_over_trl_default"] is None


def test_the_share_is_taken_of_the_faster_dtype() -> None:
    facts = {"model_flops": 80.0, "matmul_flops_per_second": {"bf16": 10.0, "fp32": 40.0}}
    assert share_of_peak(facts, 4.0) == 0.5


def test_exactness_claims_nothing_where_one_of_the_others_is_missing() -> None:
    scores = {"limbeck, fp32": {"a": [1.0, 2.0]}, "one sequence at a time, fp32": {"a": [1.0, 2.25]}}
    summary = compare_logps(scores)
    assert summary["max_abs_logps_difference_fp32"] is None
    assert summary["differences_nats"]["limbeck and one at a time, fp32"] == {"largest": 0.25, "mean": 0.125}
    summary = compare_logps(scores | {"TRL, fp32": {"a": [1.5, 2.0]}})
    assert summary["max_abs_logps_difference_fp32"] == 0.5


def test_bf16_is_compared_with_one_sequence_at_a_time_in_fp32() -> None:
    scores = {"one sequence at a time, fp32": {"a": [1.0]}, "TRL, bf16 autocast": {"a": [4.0]}}
    assert compare_logps(scores)["differences_nats"]["TRL, bf16 autocast and fp32"]["largest"] == 3.0


def test_the_sweep_counts_tokens_and_along_the_vocabulary_operations() -> None:
    points = [{"x": x, "seconds": 2.0 * x, "tokens": 10 * x, "model_flops": 5} for x in (1, 2, 4)]
    summary = summarise_sweep({"pairs": points, "vocabulary": points})
    assert summary["pairs"]["dearest_unit_over_median"] == 1.0
    assert summary["vocabulary"]["dearest_unit_over_median"] == 2.0
    assert summary["pairs"]["line"]["slope"] == pytest.approx(2)
