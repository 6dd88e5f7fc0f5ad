"""The answer of a run: the records that the verdict stage writes and the report reads."""

from typing import Literal

from limbeck.records import Estimate, HeldOutSplit, Record

Outcome = Literal["win", "tie", "loss"]
Preferred = Literal["candidate", "baseline", "tie"]


class ModelScore(Record):
    """What one model achieved on the held-out prompts. Accuracies are over all replies scored, truncated ones too.

    `retention_nats_per_token`: mean negative log-likelihood of the base model's held-out chat replies.
    `mean_response_tokens`: over the replies whose tokens are known; None where there is none.
    `missing`: replies that were asked for and are not there; like all that no judge scored, they are `unscored` too.
    `prompt_echo_rate`: share of replies that mostly repeat or go on with their prompt.
    """

    model: str
    accuracy: Estimate | None = None
    transfer_accuracy: Estimate | None = None
    accuracy_by_topic: dict[str, Estimate] = {}
    mean_reward: Estimate | None = None
    num_replies: int
    unparsable: int
    truncated: int
    unscored: int
    missing: int = 0
    mean_response_tokens: float | None
    repetition_rate: float
    prompt_echo_rate: float | None = None
    chat_repetition_rate: float | None = None
    retention_nats_per_token: float | None = None


class TopicResult(Record):
    """Wins, ties and losses of one comparison on one topic, and the difference there."""

    topic: str
    wins: int
    ties: int
    losses: int
    difference: Estimate


class Comparison(Record):
    """A paired comparison on the same prompts. `difference` is candidate minus baseline, in the judge's unit.

    A row is one sample of one prompt: `wins`, `ties`, `losses` and `unscored` count rows, the n of an estimate prompts.
    `p_value` is of the test that `test` names, `p_value_permutation` of the paired permutation test.
    `length_controlled_win_rate`: what the win rate would be at equal lengths in characters (Dubois et al. 2024), ties
    always half; None where no length is known. `win_rate_other_ties`: the win rate where a tie counts the other way (as
    half a win instead of none, or none instead of half); None in verdicts of earlier versions.
    `minimum_detectable_win_rate`: in win rate above one half.
    """

    candidate: str
    baseline: str
    judge: str
    split: HeldOutSplit
    difference: Estimate
    win_rate: Estimate
    win_rate_other_ties: Estimate | None = None
    length_controlled_win_rate: Estimate | None = None
    wins: int
    ties: int
    losses: int
    unscored: int
    test: str = ""
    p_value: float
    p_value_permutation: float | None = None
    p_value_holm: float
    minimum_detectable_difference: float | None
    minimum_detectable_win_rate: float | None = None
    by_topic: tuple[TopicResult, ...] = ()

    @property
    def gain(self) -> float:
        """What the best arm is the best by: accuracy; for learned judges the share won less the share lost."""
        if self.judge == "verifier":
            return self.difference.estimate
        return (self.wins - self.losses) / (self.wins + self.ties + self.losses)


class Strength(Record):
    """How strong a model is by one judge among all models on the same prompts (Bradley and Terry 1952).

    `log_odds` of being preferred to the baseline; `win_rate`: the same as a rate against it.
    """

    model: str
    judge: str
    log_odds: Estimate
    win_rate: Estimate


class PairAccuracy(Record):
    """How often a model gives the chosen response of a held-out pair the higher log-probability; n counts prompts.

    `against_reference`: the same of its change against the reference (the implicit reward). `longer_is_chosen`: how
    often the longer one is the chosen one: what length alone would reach. `source` is the kind of pair.
    """

    model: str
    source: str
    raw: Estimate
    against_reference: Estimate | None
    longer_is_chosen: Estimate


class ReliabilityBin(Record):
    """Pairs whose predicted probability lies in one bin: what was predicted on average, and what was true."""

    predicted: float
    observed: float
    n: int


class JudgeCard(Record):
    """How far a judge can be trusted, printed beside whatever it says.

    `accuracy`: on held-out pairs that it was not trained on; `longer_is_chosen`: of the longer response on the same
    pairs; `calibration_error`: expected, of sigmoid(margin). `limits`: sentences. `rates`: for instance `flips` and
    `first_position` of a pairwise judge, `failed_extraction` of a verifier. `beyond_longer`: accuracy minus that of the
    longer response, pair by pair. A pair that the judge gives no preference on counts half.
    """

    judge: str
    about: str
    accuracy: Estimate | None = None
    accuracy_by_source: dict[str, Estimate] = {}
    longer_is_chosen: Estimate | None = None
    calibration_error: float | None = None
    reliability: tuple[ReliabilityBin, ...] = ()
    rates: dict[str, Estimate] = {}
    limits: tuple[str, ...] = ()
    longer_is_chosen_by_source: dict[str, Estimate] = {}
    beyond_longer: Estimate | None = None


class Agreement(Record):
    """How far two judges agree on who wins, over all comparisons both scored; kappa is Cohen's (1960)."""

    judges: tuple[str, str]
    agreement: Estimate
    kappa: float | None
    n: int


class Preference(Record):
    """What a pairwise judge says of a candidate's reply and the baseline's to one prompt.

    `candidate_first`, `baseline_first`: what it preferred with that one shown first; None where it could not say, and
    both None where the replies are equal, which nobody was asked about. `outcome` is the candidate's: a tie where the
    two orders disagree, None where one is missing; `unscored_reason` then says why.
    """

    prompt_id: str
    sample_index: int = 0
    outcome: Outcome | None
    candidate_first: Preferred | None = None
    baseline_first: Preferred | None = None
    unscored_reason: str | None = None


class PairLogps(Record):
    """Summed log-probabilities (nats) that a model gives the two responses of a held-out pair, and their lengths.

    `prompt` is the same for pairs of one prompt, which are one piece of evidence; empty where it is not known.
    """

    id: str
    prompt: str = ""
    source: str
    chosen_logps: float
    rejected_logps: float
    chosen_tokens: int
    rejected_tokens: int
    chosen_characters: int
    rejected_characters: int


class Verdict(Record):
    """The answer of a run: one sentence, then the figures behind it. `cost_usd`: of the teacher, where it is known."""

    sentence: str
    confidence: float
    ties: Literal["half", "loss"] = "half"
    cost_usd: float | None = None
    scores: tuple[ModelScore, ...]
    comparisons: tuple[Comparison, ...]
    strengths: tuple[Strength, ...] = ()
    pair_accuracies: tuple[PairAccuracy, ...] = ()
    judges: tuple[JudgeCard, ...] = ()
    agreements: tuple[Agreement, ...] = ()

    def of(self, candidate: str, baseline: str, judge: str) -> Comparison | None:
        """The comparison of two models on the test prompts; None where no prompt was scored on both sides."""
        asked = (candidate, baseline, judge)
        found = (c for c in self.comparisons if c.split == "test" and (c.candidate, c.baseline, c.judge) == asked)
        return next(found, None)
