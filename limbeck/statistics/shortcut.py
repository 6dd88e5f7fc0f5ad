"""The shortcut test: can chosen be told from rejected by their surface alone, without reading what they say?

A classifier that sees only words, or only lengths, is trained on some prompts' pairs and asked about others'. Where it
succeeds, preference training can lower its loss by learning the surface instead of the quality: a shortcut (Geirhos et
al. 2020, "Shortcut learning in deep neural networks"). Everything is antisymmetric: features are those of the chosen
minus those of the rejected, and the model has no intercept, so that swapping a pair swaps its score's sign and nothing
else.

Refuses to know what the features mean.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from scipy import optimize, special

from limbeck.errors import InputError
from limbeck.seeds import rng
from limbeck.statistics.intervals import Interval, wilson
from limbeck.statistics.resampling import check_fraction, codes_of
from limbeck.statistics.words import FloatArray

FOLDS = 5
# Every pair that is asked about helped to train the classifiers of the other folds, so the folds' results go up and
# down together: where there is nothing to learn, their mean has twice the variance that independent scores would give
# it. Nadeau and Bengio 2003, section 3, correct by 1 + J n2 / n1 for J tests on n2 rows after training on n1.
_CROSS_VALIDATED = 1 + FOLDS / (FOLDS - 1)
_MAX_STEPS = 300  # of L-BFGS; on 2,000 pairs it ends after some 30


def fit_antisymmetric(differences: Any, penalty: float = 1.0) -> FloatArray:
    """Logistic regression without intercept that the chosen is the chosen; returns the weights, shape (features,).

    Minimises sum over pairs log(1 + exp(-w . d)) + penalty / 2 |w|^2 (Bradley and Terry 1952, with features and L2), by
    L-BFGS. `differences`: [pairs, features], dense or sparse, features of the chosen minus those of the rejected.
    """

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        margins = differences @ weights
        value = np.logaddexp(0.0, -margins).sum() + penalty / 2 * weights @ weights
        slope = penalty * weights - differences.T @ special.expit(-margins)
        return float(value), slope

    start = np.zeros(differences.shape[1])
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_STEPS})
    return np.asarray(found.x, dtype=np.float64)


def heldout_scores(differences: Any, prompts: Sequence[Hashable], *, seed: int, penalty: float = 1.0) -> FloatArray:
    """Score every pair by a classifier that saw no pair of its prompt: k-fold cross-validation; shape (pairs,).

    Raises:
        InputError: there are fewer prompts than folds.
    """
    codes = codes_of(prompts, differences.shape[0], "prompts")
    num_prompts = 0 if codes is None or not codes.size else int(codes.max()) + 1
    if codes is None or num_prompts < FOLDS:
        raise InputError(f"Cross-validation in {FOLDS} parts needs {FOLDS} prompts, and there are {num_prompts}.")
    order = list(range(num_prompts))
    rng(seed, "shortcut", "folds").shuffle(order)
    fold_of_prompt = np.empty(num_prompts, dtype=np.int64)
    fold_of_prompt[order] = np.arange(num_prompts) % FOLDS
    folds = fold_of_prompt[codes]
    scores = np.zeros(differences.shape[0])
    for fold in range(FOLDS):
        asked = np.flatnonzero(folds == fold)
        weights = fit_antisymmetric(differences[np.flatnonzero(folds != fold)], penalty)
        scores[asked] = differences[asked] @ weights
    return scores


def heldout_auc(
    differences: Any, prompts: Sequence[Hashable], *, seed: int, penalty: float = 1.0, confidence: float = 0.95
) -> Interval:
    """The cross-validated area under the ROC curve of telling chosen from rejected, with an interval that counts what
    the folds have in common (see `heldout_scores`, `pair_auc`).
    """
    scores = heldout_scores(differences, prompts, seed=seed, penalty=penalty)
    return pair_auc(scores, prompts, confidence, variance_factor=_CROSS_VALIDATED)


def pair_auc(
    scores: FloatArray, prompts: Sequence[Hashable], confidence: float = 0.95, variance_factor: float = 1.0
) -> Interval:
    """The area under the ROC curve of telling pairs from the same pairs swapped, with its interval; n counts prompts.

    Swapped, a pair of score s has the score -s, so the area is the probability that the scores of two different pairs
    add up to more than 0, ties half: the U-statistic behind Wilcoxon's signed ranks (Lehmann 1975, section 4.3).
    0.5: cannot be told apart. Its variance is that of the statistic's projection on single prompts (Hoeffding 1948);
    the interval is Wilson's for as many trials as would have `variance_factor` times this variance (1: scores of pairs
    of different prompts are independent), which stays within 0 and 1.

    Raises:
        InputError: there are fewer than two pairs or two prompts.
    """
    check_fraction("confidence", confidence)
    values = np.asarray(scores, dtype=np.float64)
    codes = codes_of(prompts, len(values), "prompts")
    if codes is None or len(values) < 2 or int(codes.max()) < 1:
        raise InputError("An area under the curve needs pairs of at least two prompts.")
    ordered = np.sort(values)
    above = len(values) - np.searchsorted(ordered, -values, side="right")  # how many s_j > -s_i, i itself included
    equal = np.searchsorted(ordered, -values, side="right") - np.searchsorted(ordered, -values, side="left")
    own = np.where(values > 0, 1.0, np.where(values == 0, 0.5, 0.0))
    projections = (above + equal / 2 - own) / (len(values) - 1)  # of each pair, over the others
    area = float(projections.mean())
    num_prompts = int(codes.max()) + 1
    by_prompt = np.bincount(codes, weights=projections - area)
    variance = 4 * float(by_prompt @ by_prompt) / len(values) ** 2 * num_prompts / (num_prompts - 1)
    trials = _trials(area, variance, num_prompts) / variance_factor
    return wilson(area, trials, confidence)._replace(n=num_prompts)


def _trials(area: float, variance: float, num_prompts: int) -> float:
    """How many coin throws would be as uncertain. No fewer than a quarter of the prompts, since the projections' own
    variance is at most area (1 - area); no more than all of them. Half of them, the disjoint comparisons there are,
    where nothing varied.
    """
    if math.isclose(variance, 0.0, abs_tol=1e-15):
        return num_prompts / 2
    return min(max(area * (1 - area) / variance, num_prompts / 4), float(num_prompts))
