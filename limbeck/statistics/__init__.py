"""Statistics of comparisons: pure functions, numbers in, numbers out; no torch, no files.

A verdict reads: `win_rate` or `paired_difference` for what was measured, `mcnemar_exact`, `sign_test` or
`paired_permutation` and then `holm` for what could be chance, `minimum_detectable_difference` for what could not have
been seen.
"""

from limbeck.statistics.diversity import distinct_n, repetition_rate, self_bleu, vendi_score
from limbeck.statistics.intervals import Interval, PairedDifference, paired_difference, proportion
from limbeck.statistics.power import minimum_detectable_difference, prompts_needed
from limbeck.statistics.significance import McNemar, SignTest, holm, mcnemar_exact, paired_permutation, sign_test
from limbeck.statistics.win_rate import WinRate, win_rate

__all__ = [
    "Interval",
    "McNemar",
    "PairedDifference",
    "SignTest",
    "WinRate",
    "distinct_n",
    "holm",
    "mcnemar_exact",
    "minimum_detectable_difference",
    "paired_difference",
    "paired_permutation",
    "prompts_needed",
    "proportion",
    "repetition_rate",
    "self_bleu",
    "sign_test",
    "vendi_score",
    "win_rate",
]
