"""Statistics of comparisons: pure functions, numbers in, numbers out; no torch, no files.

A verdict reads: `win_rate` (raw and `length_controlled_win_rate`) or `paired_difference` for what was measured,
`mcnemar_exact`, `sign_test` or `paired_permutation` and then `holm` for what could be chance,
`minimum_detectable_difference` for what could not have been seen, `bradley_terry` for all arms on one scale. A judge is
measured by `judge_accuracy`, `calibration`, `judge_agreement` and `order_effects`.
"""

from limbeck.statistics.agreement import Agreement, OrderEffects, judge_agreement, order_effects
from limbeck.statistics.bradley_terry import BradleyTerry, Strength, bradley_terry
from limbeck.statistics.calibration import (
    Calibration,
    JudgeAccuracy,
    calibration,
    judge_accuracy,
    length_accuracy,
)
from limbeck.statistics.diversity import distinct_n, repetition_rate, self_bleu, vendi_score
from limbeck.statistics.intervals import (
    ClusteredProportion,
    Interval,
    PairedDifference,
    clustered_proportion,
    paired_difference,
    proportion,
    sd_by_prompt,
)
from limbeck.statistics.length_controlled import LengthControlledWinRate, length_controlled_win_rate
from limbeck.statistics.outcomes import Ties
from limbeck.statistics.planning import (
    Measure,
    Plan,
    minimum_detectable_win_rate,
    plan_detectable,
    plan_prompts,
    prompts_for_win_rate,
)
from limbeck.statistics.power import minimum_detectable_difference, prompts_needed
from limbeck.statistics.significance import McNemar, SignTest, holm, mcnemar_exact, paired_permutation, sign_test
from limbeck.statistics.win_rate import WinRate, win_rate

__all__ = [
    "Agreement",
    "BradleyTerry",
    "Calibration",
    "ClusteredProportion",
    "Interval",
    "JudgeAccuracy",
    "LengthControlledWinRate",
    "McNemar",
    "Measure",
    "OrderEffects",
    "PairedDifference",
    "Plan",
    "SignTest",
    "Strength",
    "Ties",
    "WinRate",
    "bradley_terry",
    "calibration",
    "clustered_proportion",
    "distinct_n",
    "holm",
    "judge_accuracy",
    "judge_agreement",
    "length_accuracy",
    "length_controlled_win_rate",
    "mcnemar_exact",
    "minimum_detectable_difference",
    "minimum_detectable_win_rate",
    "order_effects",
    "paired_difference",
    "paired_permutation",
    "plan_detectable",
    "plan_prompts",
    "prompts_for_win_rate",
    "prompts_needed",
    "proportion",
    "repetition_rate",
    "sd_by_prompt",
    "self_bleu",
    "sign_test",
    "vendi_score",
    "win_rate",
]
