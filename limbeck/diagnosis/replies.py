"""Alarms over what a model says after training, against the baseline's replies to the same prompts.

A rate is judged by its rise and by the noise of it: replies are paired by prompt, so that only those that changed
count, and the interval resamples prompts. Start reading at: `reply_alarms`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from limbeck.diagnosis.echoes import echoes_prompt
from limbeck.recipe.alarms import Alarms
from limbeck.records import Reply
from limbeck.records.alarms import Alarm
from limbeck.statistics import PairedDifference, paired_difference, repetition_rate

_LENGTH = (
    "Compare win rates at equal length, and see whether chosen responses are longer than rejected ones (limbeck "
    "audit): dpo.length_normalised = true, a lower screen.max_length_ratio or a higher dpo.beta keeps lengths."
)
_REPEATS = "Raise dpo.nll_weight or dpo.beta, or lower dpo.learning_rate; a model that loops has left what it learnt."
_CUT = (
    "Replies no longer end: see that responses trained on end (cut ones teach no end), raise dpo.nll_weight, or lower "
    "dpo.learning_rate; where they are merely longer, raise evaluate.max_new_tokens."
)
_ECHOES = (
    "See whether chosen responses take up the prompt (limbeck inspect), and give the arm pairs whose rejected response "
    "goes on with it (zero_shot); raise dpo.nll_weight, or lower dpo.learning_rate."
)
_RESAMPLES = 2000
Key = tuple[str, int]  # prompt id, sample index


@dataclass(frozen=True)
class Answered:
    """A prompt's last user turn, a reply to it, and its data set's own good answer (a chosen response), if any."""

    prompt: str
    reply: Reply
    chosen: str | None = None


class _Rate(NamedTuple):
    """A share that may rise: its field, what it is of, the value of one reply (None: it has none), and advice."""

    field: str
    what: str
    value: Callable[[Answered], float | None]
    advice: str


_RATES = (
    _Rate("max_prompt_echo_rise", "replies that mostly repeat or go on with their prompt",
          lambda a: float(echoes_prompt(a.prompt, a.reply.text)), _ECHOES),
    _Rate("max_truncation_rise", "replies cut at the limit", lambda a: float(a.reply.finish_reason == "length"), _CUT),
    _Rate("max_repetition_rise", "4-word runs that a reply has said already",
          lambda a: repetition_rate(a.reply.text), _REPEATS),
)  # fmt: skip


def prompt_echo_rate(answers: Iterable[Answered]) -> float | None:
    """Share of replies that mostly repeat or go on with their prompt; None where there are none."""
    echoes = [echoes_prompt(answer.prompt, answer.reply.text) for answer in answers]
    return sum(echoes) / len(echoes) if echoes else None


def reply_alarms(
    about: str,
    answers: Mapping[Key, Answered],
    baseline: Mapping[Key, Answered],
    rules: Alarms,
    *,
    baseline_name: str,
    seed: int,
    lengths: bool = True,
) -> list[Alarm]:
    """Compare one model's answers with the baseline's to the same prompts.

    `lengths`: whether a drift of length is an alarm; not of SFT against the base model, which it is to change.
    """
    shared = {key: (baseline[key], answer) for key, answer in answers.items() if key in baseline}
    beside = _Beside(about, baseline_name, rules, seed, shared)
    alarms = [alarm for rate in _RATES if (alarm := _risen(beside, rate))]
    drift = _length_drift(beside) if lengths else None
    return [*alarms, *([drift] if drift else [])]


class _Difference(NamedTuple):
    """Of a value: the mean paired difference, and the mean of either side."""

    found: PairedDifference
    before: float
    after: float


class _Beside(NamedTuple):
    """One model's answers beside the baseline's: (baseline's, its own)."""

    about: str
    baseline: str
    rules: Alarms
    seed: int
    shared: Mapping[Key, tuple[Answered, Answered]]

    def difference(self, value: Callable[[Answered], float | None]) -> _Difference | None:
        """How a value differs on average, over the rows that have it on both sides; None where none has."""
        values = {key: (value(before), value(after)) for key, (before, after) in self.shared.items()}
        both = {key: (b, a) for key, (b, a) in values.items() if b is not None and a is not None}
        if not both:
            return None
        before, after = ([row[side] for row in both.values()] for side in (0, 1))
        prompts = [prompt for prompt, _ in both]
        found = paired_difference(before, after, seed=self.seed, clusters=prompts, resamples=_RESAMPLES)
        return _Difference(found, sum(before) / len(both), sum(after) / len(both))

    def alarm(self, field: str, value: float, threshold: float, sentence: str, advice: str) -> Alarm:
        return Alarm(about=self.about, field=f"alarms.{field}", value=value, threshold=threshold,
                     sentence=f"{self.about}: {sentence}", advice=advice)  # fmt: skip


def _risen(beside: _Beside, rate: _Rate) -> Alarm | None:
    difference, limit = beside.difference(rate.value), float(getattr(beside.rules, rate.field))
    if difference is None or difference.found.estimate <= limit or difference.found.low <= 0:
        return None
    found = difference.found
    sentence = (
        f"{rate.what}: {difference.after:.1%}, {beside.baseline}'s {difference.before:.1%}; a rise of "
        f"{100 * found.estimate:.1f} points [{100 * found.low:.1f}, {100 * found.high:.1f}] over "
        f"{found.num_prompts:,} prompts, threshold {100 * limit:g}."
    )
    return beside.alarm(rate.field, found.estimate, limit, sentence, rate.advice)


def _length_drift(beside: _Beside) -> Alarm | None:
    """The geometric mean of length ratios, in characters: other tokenizers and unknown token counts do not matter.

    An empty reply counts as one character: a model that falls silent is to be heard of.
    """
    difference = beside.difference(lambda a: math.log(max(len(a.reply.text), 1)))
    if difference is None:
        return None
    found, most = difference.found, beside.rules.max_length_factor
    factor = math.exp(found.estimate)
    limit = most if factor > 1 else 1 / most
    if abs(found.estimate) <= math.log(most) or found.low <= 0 <= found.high:
        return None
    sentence = (
        f"replies are {'longer' if factor > 1 else 'shorter'} than {beside.baseline}'s to the same prompts by a factor "
        f"of {factor:.2f} [{math.exp(found.low):.2f}, {math.exp(found.high):.2f}] over {found.num_prompts:,} prompts, "
        f"threshold {limit:.2f}{_empty(beside)}{_beside_chosen(beside)}."
    )
    return beside.alarm("max_length_factor", factor, limit, sentence, _LENGTH)


def _empty(beside: _Beside) -> str:
    """How many replies are empty, where some are."""
    empty = sum(not after.reply.text for _, after in beside.shared.values())
    return f"; {empty:,} of {len(beside.shared):,} are empty" if empty else ""


def _beside_chosen(beside: _Beside) -> str:
    """How long replies are beside the chosen responses of the same prompts, where those are known."""
    logs = [math.log(len(after.reply.text) / len(after.chosen)) for _, after in beside.shared.values()
            if after.chosen and after.reply.text]  # fmt: skip
    return f"; {math.exp(sum(logs) / len(logs)):.2f} times as long as the data's own chosen responses" if logs else ""
