"""How far a learned judge can be trusted: its margins on pairs with known answers made into a `JudgeCard`. Pure.

Beside its accuracy stands that of picking the longer response (in characters) of the same pairs: a judge that does not
beat it may have learnt nothing else.
"""

from collections.abc import Mapping, Sequence
from math import exp

from limbeck.likeness import prompt_identity
from limbeck.records import Estimate, Pair
from limbeck.records.verdict import JudgeCard, ReliabilityBin
from limbeck.statistics.calibration import JudgeAccuracy, calibration, judge_accuracy
from limbeck.statistics.intervals import ClusteredProportion

FEW_PAIRS = 200  # 200 pairs at 70 % have a 95 % half-width of 6 points
MISCALIBRATED = 0.1  # Guo et al. 2017, table 1: uncalibrated networks err by 0.03 to 0.17


def judge_card(
    judge: str,
    about: str,
    pairs: Sequence[Pair],
    margins: Sequence[float],
    *,
    seed: int,
    confidence: float,
    more_limits: Sequence[str] = (),
) -> JudgeCard:
    """Measure a judge on `pairs`, whose `margins` are its score of the chosen minus that of the rejected response.

    Raises:
        InputError: there is no pair, or a margin is not finite.
    """
    accuracy = _accuracy(pairs, margins, seed, confidence)
    by_source = _by_source(pairs, margins, seed, confidence)
    found = calibration(margins, confidence=confidence)
    difference = accuracy.difference
    return JudgeCard(
        judge=judge,
        about=about,
        accuracy=_estimate(accuracy.judge),
        accuracy_by_source={source: _estimate(each.judge) for source, each in by_source.items()},
        longer_is_chosen=_estimate(accuracy.longer),
        longer_is_chosen_by_source={source: _estimate(each.longer) for source, each in by_source.items()},
        beyond_longer=Estimate(
            estimate=difference.estimate, low=difference.low, high=difference.high, n=difference.num_rows
        ),
        calibration_error=found.expected_error,
        reliability=tuple(
            ReliabilityBin(predicted=each.confidence, observed=each.accuracy.estimate, n=each.num_pairs)
            for each in found.bins
            if each.confidence is not None and each.accuracy is not None
        ),
        limits=(*_limits(accuracy, by_source), *_calibration_limits(margins, found.expected_error), *more_limits),
    )


def _accuracy(pairs: Sequence[Pair], margins: Sequence[float], seed: int, confidence: float) -> JudgeAccuracy:
    return judge_accuracy(
        margins,
        [float(len(pair.chosen)) for pair in pairs],
        [float(len(pair.rejected)) for pair in pairs],
        seed=seed,
        clusters=[prompt_identity(pair) for pair in pairs],
        confidence=confidence,
    )


def _by_source(
    pairs: Sequence[Pair], margins: Sequence[float], seed: int, confidence: float
) -> dict[str, JudgeAccuracy]:
    """Empty where all pairs are of one source."""
    sources = sorted({pair.source for pair in pairs})
    if len(sources) < 2:
        return {}
    found = {}
    for source in sources:
        here = [place for place, pair in enumerate(pairs) if pair.source == source]
        found[source] = _accuracy([pairs[place] for place in here], [margins[p] for p in here], seed, confidence)
    return found


def _estimate(found: ClusteredProportion) -> Estimate:
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.num_rows)


def _limits(accuracy: JudgeAccuracy, by_source: Mapping[str, JudgeAccuracy]) -> list[str]:
    """What the numbers do not allow to claim."""
    judge, longer, difference = accuracy.judge, accuracy.longer, accuracy.difference
    found = []
    if judge.low <= 0.5:
        found.append(f"not clearly better than chance: right on {_share(judge)} of {judge.num_rows} pairs")
    if difference.low <= 0:
        verdict = "clearly worse" if difference.high < 0 else "not clearly better"
        found.append(
            f"{verdict} than picking the longer response, which is right on {longer.estimate:.1%} of the same pairs "
            f"(difference {100 * difference.estimate:+.1f} points, {100 * difference.low:+.1f} to "
            f"{100 * difference.high:+.1f})"
        )
    weak = [source for source, each in by_source.items() if each.judge.low <= 0.5]
    if weak and judge.low > 0.5:
        found.append(f"not clearly better than chance on pairs of {', '.join(weak)}")
    if judge.num_rows < FEW_PAIRS:
        found.append(f"measured on {judge.num_rows} pairs only: its accuracy is known to {_share(judge)}")
    if accuracy.judge_ties > 0.01:
        found.append(f"gives both responses the same score on {accuracy.judge_ties:.1%} of the pairs")
    return found


def _calibration_limits(margins: Sequence[float], error: float) -> list[str]:
    if error <= MISCALIBRATED:
        return []
    right = sum(margin > 0 for margin in margins) / len(margins)
    sure = sum(_sureness(margin) for margin in margins) / len(margins)
    how = "surer than it may be" if sure > right else "less sure than it could be"
    return [f"its probabilities are off by {error:.2f} on average ({how}): read who is better, not by how much"]


def _sureness(margin: float) -> float:
    return 1 / (1 + exp(-min(abs(margin), 700.0)))


def _share(found: ClusteredProportion) -> str:
    return f"{found.estimate:.1%} ({found.low:.1%} to {found.high:.1%})"
