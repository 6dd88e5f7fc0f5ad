"""Rules over losses, of SFT and of DPO alike: oscillation, a held-out loss that rises, a gap between the two.

The held-out loss is always of the same rows, so whatever it does is the weights' doing; that of training steps is of
other rows each time and varies from step to step where nothing is wrong. So a training loss that varies is an alarm
only where it does not fall either.
Start reading at: `loss_findings`.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from limbeck.diagnosis.history import LEAST_WINDOW, Finding, History, of
from limbeck.diagnosis.problem_rules import SOLVED, solved_more

_SWING = (
    "Lower learning_rate (to a third or a tenth) or, with DPO, beta; a longer warmup_steps or a larger batch_size "
    "helps too. With DPO see whether pairs contradict each other (limbeck audit), and set dpo.label_smoothing above 0."
)
_OVERFIT = (
    'With keep = "best" the weights of the lowest are kept. Fewer epochs or more data; set patience to stop by itself, '
    "or lower learning_rate."
)
_NEVER_BETTER = (
    "Training made it worse from the start: lower learning_rate; see whether held-out rows are of another kind."
)
_ASK = " The loss of a student's own replies may rise while it solves more; validate_problems says whether it does."
_GAP = "The rows trained on are learnt by heart: fewer epochs, more or more varied demonstrations, or sft.lora."
_UNLEARNT = "Mix in more of that source, lower sft.learning_rate, or train fewer epochs."
_NORMAL_STEP = 0.954  # median of |x - y| over the deviation of x, for independent normal x and y: 0.6745 sqrt(2)
# SFT that goes on from a low loss: what a step's is, hangs on the few tokens that are not yet certain. Measured with 16
# mined problems a step: a mean of 0.09 nats a token and a deviation of 0.03, while the held-out loss fell by a third;
# with 4 a step, deviations of up to 0.11 in 15 runs whose held-out loss fell by 40 to 60 %. A mean of fewer rows varies
# more.
_LEAST_SWING_NATS, _OF_ROWS = 0.1, 16
# SFT on a student's own replies, likely from the start: 0.004 nats a token more on the like of them and 0.007 on worked
# solutions, 14 and 8 % of what they began with, in a run that solved 16 more problems in a hundred.
_LEAST_RISE_NATS = 0.01
_LEAST_TURNS = 3  # up, down, up: a warm-up that overshoots and then overfits makes two


def loss_findings(history: History, split: str) -> Iterator[Finding]:
    """What the newest point, of `split`, shows of the losses."""
    if split == "train":
        yield from _swing(history)
        return
    yield from _turns(history)
    yield from _rise(history)
    if not history.of_pairs:
        yield from _gap(history)
        yield from _sources_rise(history)


def main_loss(history: History) -> str:
    """The loss whose value at agreement is known: without the NLL term, where there is one."""
    points = history.train or history.validation
    return "preference_loss" if points and "preference_loss" in points[0].values else "loss"


def began_with(history: History) -> float | None:
    """The held-out loss before the first step, else that of the first training steps."""
    name = main_loss(history)
    if history.validation and history.validation[0].step == 0:
        return history.validation[0].values[name]
    first = [point.values[name] for point in history.train[:3]]
    return sum(first) / len(first) if first else None


def deviation(values: Sequence[float]) -> float:
    """Deviation of neighbouring values around whatever trend they follow, in their unit.

    From successive differences (von Neumann, Kent, Bellinson and Hart 1941), by the median instead of the mean square,
    so that one spike does not count as many.
    """
    return median(abs(later - earlier) for earlier, later in pairwise(values)) / _NORMAL_STEP


def turns(values: Sequence[float], least: float) -> list[float]:
    """The turning points of a curve, highs and lows in turn, where moves smaller than `least` are none."""
    found: list[float] = []
    rising: bool | None = None
    high = low = values[0]
    for value in values:
        high, low = max(high, value), min(low, value)
        if rising is not False and high - value >= least:
            found += [high] if rising else []
            rising, low = False, value
        elif rising is not True and value - low >= least:
            found += [low] if rising is False else []
            rising, high = True, value
    return found


def _swing(history: History) -> Iterator[Finding]:
    start, values = began_with(history), history.recent(main_loss(history))
    warm = len(history.train) - history.training.warmup_steps >= history.window
    if not start or not warm or len(values) < LEAST_WINDOW:
        return
    mean, limit = sum(values) / len(values), history.rules.max_loss_swing
    swing = deviation(values)
    is_sft = main_loss(history) == "loss" and not history.of_pairs
    fewer = max(_OF_ROWS / history.training.batch_size, 1)
    if is_sft and swing < _LEAST_SWING_NATS * math.sqrt(fewer):
        return
    share = swing / start
    if share > limit and mean > (1 - limit / 2) * start:
        sentence = (
            f"the loss oscillates: from one step to the next it varies by {share:.0%} of the {start:.3f} that training "
            f"began with, threshold {limit:.0%}, and does not fall: mean {mean:.3f} over {len(values)} steps."
        )
        yield Finding("swing", "max_loss_swing", share, limit, sentence, _SWING)


def _turns(history: History) -> Iterator[Finding]:
    start, limit = began_with(history), history.rules.max_loss_swing
    values = history.validated(main_loss(history))
    if not start or len(values) <= _LEAST_TURNS:
        return
    found = turns(values, limit * start)
    if len(found) >= _LEAST_TURNS:
        share = min(abs(later - earlier) for earlier, later in pairwise(found)) / start
        sentence = (
            f"the held-out loss oscillates: it turned {len(found)} times by at least {share:.0%} of the {start:.3f} "
            f"that it began with, threshold {limit:.0%}."
        )
        yield Finding("held-out swing", "max_loss_swing", share, limit, sentence, _SWING)


def _rise(history: History) -> Iterator[Finding]:
    values, last = history.validated("loss"), history.rules.validations
    if len(values) <= last:
        return
    best, limit = min(values), history.rules.max_loss_rise
    least = 0.0 if history.of_pairs else _LEAST_RISE_NATS
    if not _risen(min(values[-last:]), best, limit, least):  # all of the last ones must be higher
        return
    from_here = next(point for point in history.validation if point.values["loss"] == best)
    if solved_more(from_here, history.validation[-last:]):
        return
    value = values[-1] / best - 1
    sentence = (
        f"the held-out loss rises: {values[-1]:.3f}, {value:.0%} above its lowest, {best:.3f} at step "
        f"{from_here.step}, threshold {limit:.0%}."
    )
    advice = _OVERFIT if from_here.step else _NEVER_BETTER + ("" if history.validated(SOLVED) else _ASK)
    yield Finding("rise", "max_loss_rise", value, limit, sentence, advice)


def _risen(now: float, before: float, limit: float, least: float) -> bool:
    """Whether a loss lies above one that is not 0 by the share `limit` of it, and by `least`."""
    return before > 0 and now > (1 + limit) * before and now - before >= least


def _gap(history: History) -> Iterator[Finding]:
    train, heldout = history.mean_recent("loss"), history.settled("loss")
    limit = history.rules.max_loss_gap_nats
    if train is not None and heldout and min(heldout) - train > limit:
        gap = heldout[-1] - train
        sentence = (
            f"held-out loss {heldout[-1]:.3f} and training loss {train:.3f} lie {gap:.2f} nats a token apart, "
            f"threshold {limit:g}."
        )
        yield Finding("gap", "max_loss_gap_nats", gap, limit, sentence, _GAP)


def _sources_rise(history: History) -> Iterator[Finding]:
    limit = history.rules.max_loss_rise
    for source in history.sources("loss"):
        began, now = history.validated(of("loss", source))[0], history.settled(of("loss", source))
        if now and _risen(min(now), began, limit, _LEAST_RISE_NATS):
            value = now[-1] / began - 1
            unit = "is not learnt" if source in history.training.trained else "is forgotten, being not trained on"
            sentence = (
                f"{source} {unit}: its held-out loss rose from {began:.3f} to {now[-1]:.3f} nats a token, by "
                f"{value:.0%}, threshold {limit:.0%}."
            )
            yield Finding(of("rise", source), "max_loss_rise", value, limit, sentence, _UNLEARNT)
