"""What iterated runs gained, round by round: the record that the report and the console read."""

from typing import Literal

from limbeck.records import Estimate, Record

Stopped = Literal["all", "unclear", "worse", "unscored", "budget", "nothing_fails", "too_few"]


class Round(Record):
    """One round: the model it left, and what that gained on the same held-out prompts, in the judge's unit.

    `gain`: over the last round's model (of the first round: over SFT), paired; None where no prompt is scored on both
    sides. `gain_over_sft`: None also of a pairwise judge, which saw no later round's replies beside those of SFT.
    `score`: accuracy (verifier) or mean reward. `pairs`: those that it was trained on. `usd`: what the replies that
    they were made of cost, None where no price is known. `seconds`: from mining to the trained model, of the attempts
    that finished.
    """

    number: int
    model: str
    score: Estimate | None
    gain: Estimate | None
    gain_over_sft: Estimate | None
    pairs: int
    usd: float | None
    seconds: float

    @property
    def gain_per_1000_pairs(self) -> float | None:
        """None where the gain is not known."""
        return None if self.gain is None or not self.pairs else 1000 * self.gain.estimate / self.pairs

    @property
    def gain_per_usd(self) -> float | None:
        """None where the gain or a price is not known, or nothing was paid."""
        return None if self.gain is None or not self.usd else self.gain.estimate / self.usd

    @property
    def gain_per_hour(self) -> float | None:
        """None where the gain is not known."""
        return None if self.gain is None or not self.seconds else 3600 * self.gain.estimate / self.seconds


class RoundsRecord(Record):
    """All rounds of a run. `asked_for`: how many at most. `why`: why there are no more; `limits`: what that costs."""

    arm: str
    judge: str
    confidence: float
    asked_for: int
    rounds: tuple[Round, ...]
    stopped: Stopped
    why: str
    limits: tuple[str, ...] = ()
