"""Rules over preference pairs: accuracy that stays at chance, a source refused or forgotten, pairs that are too easy,
and how far the policy has left the reference.

Accuracy is of the implicit rewards (chosen above rejected), so 0.5 is what a model has that learnt nothing since the
reference. Held-out figures are shares of few pairs, and every rule allows for that: an exact binomial tail, or Wilson's
interval at 95 %.
Start reading at: `pair_findings`.
"""

import math
from collections.abc import Iterator

from scipy import special

from limbeck.diagnosis.history import Finding, History, interval, of, said

_CHANCE = 0.05  # one time in twenty
_LEAST_PAIRS = 64  # to call pairs easy by: at 0.98, Wilson's interval goes from 0.91
_LEAST_STEPS = 3
_MEMORISED = 0.8  # training accuracy from which "learnt by heart" is the likelier reading than "not learnt"
_BY_HEART = (
    "The pairs trained on are told apart ({train:.2f}), others are not: widen what pairs are written from (rolling "
    "pairs, more human ones in the arm), and train fewer epochs."
)
_NOT_AT_ALL = (
    "Neither are the pairs trained on{train}: raise dpo.learning_rate or the number of steps, and see that chosen and "
    "rejected are not exchanged (limbeck audit)."
)
_REFUSED = (
    "Give that source a larger share of the arm, look at its pairs with limbeck inspect (contradictions, exchanged "
    "sides), or leave it out."
)
_FORGOTTEN = (
    "Train on all kinds in one run (mixing uniform or interleave instead of sequential), or keep pairs of that source "
    "in this run; a lower dpo.learning_rate or higher dpo.beta forgets less."
)
_ELSEWHERE = (
    "What is learnt is a mark of the pairs trained on: widen the prompts that they are written from (rolling pairs), "
    "and mix pairs of that source into the run."
)
_GAP = "Fewer epochs, a lower dpo.learning_rate, more pairs, or a wider choice of prompts."
_EASY = (
    "The sides differ in something shallow (limbeck audit shows words and lengths that tell them apart), so little is "
    "learnt: use rejected responses nearer to the chosen ones (on_policy, revise, contrast)."
)
_LENGTH = (
    "The model has learnt less than a ruler knows: set dpo.length_normalised = true, lower screen.max_length_ratio, or "
    "train longer."
)
_DISPLACED = (
    "The loss sees the margin alone, which also grows where both fall (Razin et al. 2024; Pal et al. 2024). Raise "
    "dpo.nll_weight, lower dpo.learning_rate, or drop pairs whose sides are nearly the same; judge by the replies."
)
_DRIFTED = "Raise dpo.beta, lower dpo.learning_rate or train fewer steps; see what replies look like."


def pair_findings(history: History, split: str) -> Iterator[Finding]:
    """What the newest point, of `split`, shows of the pairs."""
    if split == "train":
        yield from _easy(history)
        if not history.validation:
            yield from _moved(history, heldout=False)
        return
    yield from _accuracy(history)
    yield from _moved(history, heldout=True)


def _accuracy(history: History) -> Iterator[Finding]:
    stuck = list(_stuck(history, None))
    yield from stuck
    sources: list[str | None] = [*history.sources("accuracy")]
    for source in sources or [None]:
        refused = [] if stuck or source is None else list(_stuck(history, source))
        yield from refused
        yield from _fell(history, source)
        if not refused:  # which says it, too
            yield from _gap(history, source)
    yield from _below_length_rule(history)


def _stuck(history: History, source: str | None) -> Iterator[Finding]:
    """Held-out accuracy at or under chance at each of the last validations, and too low for a run that learns."""
    rules, n = history.rules, history.num_heldout(source)
    values = history.settled(of("accuracy", source))
    if not values or not n or max(values) > rules.min_heldout_accuracy:
        return
    if special.bdtr(round(values[-1] * n), n, rules.learnt_accuracy) > _CHANCE:
        return
    train = history.mean_recent("accuracy")
    now = interval(values[-1], n)
    below = now.high < rules.min_heldout_accuracy
    what = "pairs" if source is None else f"{source} pairs"
    sentence = (
        f"held-out accuracy on {what} is stuck at or under {rules.min_heldout_accuracy:g}: {said(now)}, and no higher "
        f"at the last {len(values)} validations{_meaning(history, source, below=below)}."
    )
    advice = _advice(history, source, train, below=below)
    key = of("stuck", source)
    yield Finding(key, "min_heldout_accuracy", values[-1], rules.min_heldout_accuracy, sentence, advice)


def _meaning(history: History, source: str | None, *, below: bool) -> str:
    if source is None:
        return ""
    if source in history.training.trained:
        return "; the model refuses to learn this source"
    if below:
        return "; this run does not train on them, and what the reference knew of them is being forgotten"
    return "; this run does not train on them, and what it learns does not carry over"


def _advice(history: History, source: str | None, train: float | None, *, below: bool) -> str:
    if source is not None:
        if source in history.training.trained:
            return _REFUSED
        return _FORGOTTEN if below else _ELSEWHERE
    if train is not None and train >= _MEMORISED:
        return _BY_HEART.format(train=train)
    return _NOT_AT_ALL.format(train="" if train is None else f" ({train:.2f})")


def _fell(history: History, source: str | None) -> Iterator[Finding]:
    """Held-out accuracy that was higher: a source that is being forgotten, or a run past its best."""
    n, limit = history.num_heldout(source), history.rules.max_heldout_fall
    values, last = history.validated(of("accuracy", source)), history.rules.validations
    if len(values) <= last or not n:
        return
    best = max(values[:-last])
    if all(best - value > limit and interval(value, n).high < best for value in values[-last:]):
        fall = best - values[-1]
        what = "pairs" if source is None else f"{source} pairs"
        own = source is None or source in history.training.trained
        sentence = (
            f"held-out accuracy on {what} fell from {best:.2f} to {said(interval(values[-1], n))}, by {fall:.2f}, "
            f"threshold {limit:g}{'' if own else '; this run does not train on them'}."
        )
        yield Finding(of("fell", source), "max_heldout_fall", fall, limit, sentence, _GAP if own else _FORGOTTEN)


def _gap(history: History, source: str | None) -> Iterator[Finding]:
    n, limit = history.num_heldout(source), history.rules.max_accuracy_gap
    own = source is None or source in history.training.trained
    train, heldout = (
        history.mean_recent(of("accuracy", source if own else None)),
        history.settled(of("accuracy", source)),
    )
    if train is None or not heldout or not n:
        return
    if all(interval(value, n).high < train - limit for value in heldout):
        gap, now = train - heldout[-1], said(interval(heldout[-1], n))
        what = "" if source is None or not own else f" on {source} pairs"
        where = "held out" if own else f"held-out {source} pairs, which this run does not train on"
        sentence = (
            f"accuracy{what} is {train:.2f} in training and {now} {where}: a gap of {gap:.2f}, threshold {limit:g}."
        )
        yield Finding(of("gap", source), "max_accuracy_gap", gap, limit, sentence, _GAP if own else _ELSEWHERE)


def _below_length_rule(history: History) -> Iterator[Finding]:
    rules, n, latest = history.rules, history.num_heldout(None), history.validation[-1]
    if latest.step < history.training.steps or not n or "longer_is_chosen" not in latest.values:
        return
    longer, accuracy = latest.values["longer_is_chosen"], latest.values["accuracy"]
    rule = max(longer, 1 - longer)
    lead = rule - accuracy
    if interval(accuracy, n).high < rule - rules.max_length_rule_lead:
        sentence = (
            f"'the {'longer' if longer >= 0.5 else 'shorter'} is chosen' tells {rule:.2f} of the held-out pairs apart, "
            f"the model {said(interval(accuracy, n))}: {lead:.2f} less, threshold {rules.max_length_rule_lead:g}."
        )
        yield Finding("length rule", "max_length_rule_lead", lead, rules.max_length_rule_lead, sentence, _LENGTH)


def _easy(history: History) -> Iterator[Finding]:
    """Nearly all pairs told apart before any was seen twice, early in the run. Step 1 has margins of 0."""
    rules, training, step = history.rules, history.training, history.train[-1].step
    early = step <= rules.easy_share * training.steps and step * training.batch_size <= training.num_rows
    steps = max(math.ceil(_LEAST_PAIRS / training.batch_size), _LEAST_STEPS)
    values = [point.values["accuracy"] for point in history.train[-steps:] if point.step > 1]
    if not early or len(values) < steps:
        return
    accuracy = sum(values) / len(values)
    if accuracy > rules.easy_accuracy:
        sentence = (
            f"pairs are too easy: {accuracy:.2f} of {steps * training.batch_size:,} pairs not seen before are told "
            f"apart after {step / training.steps:.0%} of the steps, threshold {rules.easy_accuracy:g}."
        )
        yield Finding("easy", "easy_accuracy", accuracy, rules.easy_accuracy, sentence, _EASY)


def _moved(history: History, *, heldout: bool) -> Iterator[Finding]:
    rules, where = history.rules, "held-out " if heldout else ""
    chosen = _moved_by(history, "chosen_logps_change_per_token", heldout)
    rejected = _moved_by(history, "rejected_logps_change_per_token", heldout)
    if chosen is not None and -chosen > rules.max_chosen_fall_nats:
        sentence = (
            f"{where}chosen responses become less likely: {chosen:+.2f} nats a token against the reference, threshold "
            f"{-rules.max_chosen_fall_nats:g}{'' if rejected is None else f'; rejected ones {rejected:+.2f}'}."
        )
        yield Finding("chosen", "max_chosen_fall_nats", chosen, -rules.max_chosen_fall_nats, sentence, _DISPLACED)
    drift = _moved_by(history, "drift", heldout)
    if drift is not None and drift > rules.max_drift_nats:
        sentence = (
            f"the policy has drifted {drift:.2f} nats a token further from the reference on {where}responses, "
            f"threshold {rules.max_drift_nats:g}."
        )
        yield Finding("drift", "max_drift_nats", drift, rules.max_drift_nats, sentence, _DRIFTED)


def _moved_by(history: History, name: str, heldout: bool) -> float | None:
    """By how much a value against the reference has changed since training began.

    Before the first step it is 0, unless the reference is another model than the one that training starts from.
    """
    now = history.validation[-1].values.get(name) if heldout else history.mean_recent(name)
    began = history.validated(name) if heldout and history.validation[0].step == 0 else []
    return None if now is None else now - (began[0] if began else 0.0)
