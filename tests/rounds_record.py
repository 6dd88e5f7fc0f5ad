"""A record of two rounds, for tests of what shows it."""

from typing import Any

from limbeck.records import Estimate
from limbeck.records.rounds import Round, RoundsRecord


def estimate(at: float) -> Estimate:
    return Estimate(estimate=at, low=at - 0.031, high=at + 0.029, n=500)


def a_record(**changes: Any) -> RoundsRecord:
    """The second round gained less, for more money."""
    first = Round(number=1, model="dpo/taught/model", score=estimate(0.412), gain=estimate(0.06),
                  gain_over_sft=estimate(0.06), pairs=1200, usd=1.2, seconds=1800)  # fmt: skip
    second = Round(number=2, model="rounds/2/dpo/taught/model", score=estimate(0.427), gain=estimate(0.015),
                   gain_over_sft=estimate(0.075), pairs=1200, usd=None, seconds=3600)  # fmt: skip
    fields: dict[str, Any] = {
        "arm": "taught", "judge": "verifier", "confidence": 0.95, "asked_for": 3, "rounds": (first, second),
        "stopped": "unclear", "why": "round 2 did not clearly gain", "limits": ("it was looked at twice",),
    }  # fmt: skip
    return RoundsRecord(**fields | changes)
