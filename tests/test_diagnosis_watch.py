"""The watch: which curves raise which alarm, at which point, and how often."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.diagnosis import Training, Watch
from limbeck.diagnosis.loss_rules import deviation, turns
from limbeck.recipe.alarms import Alarms
from limbeck.records import Metric
from limbeck.records.alarms import Alarm

RUN = Training(steps=40, warmup_steps=4, batch_size=16, num_rows=640, trained={"human": 640}, heldout={"human": 100})
TWO = Training(40, 4, 16, 640, trained={"few_shot": 640}, heldout={"human": 100, "few_shot": 100})
EVEN = {"loss": 0.7, "preference_loss": 0.69, "accuracy": 0.7}


def held(step: int, **values: float) -> Metric:
    return Metric(step=step, split="validation", values={**EVEN, **values})


def step(at: int, **values: float) -> Metric:
    return Metric(step=at, split="train", values={**EVEN, **values})


def steps(number: int, **values: float) -> list[Metric]:
    return [step(at, **values) for at in range(1, number + 1)]


def sft(at: int, loss: float, split: str = "validation", **sources: float) -> Metric:
    values = {"loss": loss, **{f"loss/{source}": value for source, value in sources.items()}}
    return Metric.model_validate({"step": at, "split": split, "values": values})


def raised(points: Sequence[Metric], run: Training = RUN, **rules: object) -> list[Alarm]:
    watch = Watch("dpo/arm", Alarms.model_validate(rules), run)
    return [alarm for point in points for alarm in watch.see(point)]


def fields(points: Sequence[Metric], run: Training = RUN, **rules: object) -> list[tuple[str, int | None]]:
    return [(alarm.field.removeprefix("alarms."), alarm.step) for alarm in raised(points, run, **rules)]


def test_accuracy_at_chance_is_said_once_at_the_second_settled_validation() -> None:
    points = [held(at, accuracy=0.0 if at == 0 else 0.5) for at in range(0, 41, 5)]
    (found,) = raised(points)
    assert (found.about, found.field, found.step) == ("dpo/arm", "alarms.min_heldout_accuracy", 15)  # 5 is not settled
    assert (found.value, found.threshold) == (0.5, 0.5)
    assert found.sentence == (
        "dpo/arm, step 15: held-out accuracy on pairs is stuck at or under 0.5: 0.50 [0.40, 0.60] of 100, and no "
        "higher at the last 2 validations."
    )
    assert fields([held(10, accuracy=0.5), held(15, accuracy=0.51), held(20, accuracy=0.5)]) == []


@pytest.mark.parametrize(("right", "pairs", "is_alarm"), [(12, 24, False), (11, 24, True), (2, 8, True), (3, 8, False)])
def test_few_pairs_are_no_alarm_where_a_run_that_learns_could_be_as_low(right: int, pairs: int, is_alarm: bool) -> None:
    """P(X <= 11 | 24, 0.65) = 0.042 and P(X <= 12) = 0.094; P(X <= 2 | 8) = 0.025 and P(X <= 3) = 0.106."""
    run = Training(40, 4, 16, 640, {"human": 640}, {"human": pairs})
    points = [held(at, accuracy=right / pairs) for at in (10, 15)]
    assert bool(fields(points, run)) == is_alarm


def test_the_advice_depends_on_whether_the_pairs_trained_on_are_told_apart() -> None:
    chance = [held(10, accuracy=0.45), held(15, accuracy=0.45)]
    (low,) = [a for a in raised([*steps(10, accuracy=0.5), *chance]) if "stuck" in a.sentence]
    (high,) = [a for a in raised([*steps(10, accuracy=0.9), *chance]) if "stuck" in a.sentence]
    assert "raise dpo.learning_rate" in low.advice
    assert "fewer epochs" in high.advice


@pytest.mark.parametrize(
    ("before", "now", "asked", "is_alarm"),
    [
        (0.5, 0.36, 60, True),  # 22 of 60: Wilson's interval ends at 0.494
        (0.5, 0.40, 60, False),  # 24 of 60: at 0.526
        (0.5, 0.40, 150, True),  # 60 of 150: at 0.480
        (0.5, 0.47, 5000, False),  # surely fewer, and no more than the threshold
        (0.3, 0.5, 60, False),
    ],
)
def test_fewer_problems_solved_than_before_training_is_an_alarm_where_chance_does_not_explain_it(
    before: float, now: float, asked: int, is_alarm: bool
) -> None:
    fewer = [held(at, solved=round(now * asked) / asked, problems=asked) for at in (10, 15)]
    points = [held(0, solved=before, problems=asked), *fewer]
    assert (("max_solved_drop", 15) in fields(points)) == is_alarm
    assert ("max_solved_drop", 15) not in fields(points, max_solved_drop=0.5)


def test_one_validation_with_few_problems_solved_is_no_alarm() -> None:
    shares = {0: 0.5, 10: 0.2, 15: 0.5, 20: 0.2, 25: 0.55}
    points = [held(at, solved=share, problems=60) for at, share in shares.items()]
    assert "max_solved_drop" not in [field for field, _ in fields(points)]
    unsettled = [held(at, solved=0.5 if at == 0 else 0.2, problems=60) for at in (0, 1, 2)]
    assert "max_solved_drop" not in [field for field, _ in fields(unsettled)]


def by_source(at: int, human: float, few_shot: float) -> Metric:
    both: Mapping[str, float] = {"accuracy/human": human, "accuracy/few_shot": few_shot}
    return Metric(step=at, split="validation", values={**EVEN, "accuracy": (human + few_shot) / 2, **both})


def test_a_source_below_chance_that_the_run_does_not_train_on_is_being_forgotten() -> None:
    found = raised([by_source(at, 0.3, 0.9) for at in (10, 15)], TWO)
    (stuck,) = [alarm for alarm in found if alarm.field == "alarms.min_heldout_accuracy"]
    assert "on human pairs is stuck" in stuck.sentence
    assert "is being forgotten" in stuck.sentence
    assert "sequential" in stuck.advice


def test_a_source_trained_on_that_stays_at_chance_is_refused() -> None:
    run = Training(40, 4, 16, 640, {"few_shot": 320, "human": 320}, {"human": 100, "few_shot": 100})
    found = raised([by_source(at, 0.49, 0.9) for at in (10, 15)], run)
    assert ["refuses to learn" in alarm.sentence for alarm in found] == [True]


def test_a_fall_from_the_best_must_be_wide_certain_and_last() -> None:
    def falls(*accuracies: float) -> list[str]:
        return [f for f, _ in fields([held(5 * at, accuracy=a) for at, a in enumerate(accuracies)])]

    assert falls(0.0, 0.8, 0.6, 0.6) == ["max_heldout_fall"]
    assert falls(0.0, 0.8, 0.6, 0.8) == []  # one dip
    assert falls(0.0, 0.8, 0.66, 0.66) == []  # narrower than the threshold
    few = Training(40, 4, 16, 640, {"human": 640}, {"human": 10})
    assert fields([held(5 * at, accuracy=a) for at, a in enumerate((0.0, 0.8, 0.6, 0.6))], few) == []  # of ten pairs


def test_a_gap_between_training_and_held_out_of_the_same_source() -> None:
    points = [*steps(20, accuracy=0.95), held(15, accuracy=0.56), held(20, accuracy=0.56)]
    (found,) = raised(points)
    assert (found.field, found.value) == ("alarms.max_accuracy_gap", pytest.approx(0.39))
    assert "0.95 in training and 0.56 [0.46, 0.65] of 100 held out" in found.sentence
    assert fields([*steps(20, accuracy=0.95), held(15, accuracy=0.65), held(20, accuracy=0.65)]) == []  # up to 0.74


def test_the_same_fault_is_said_again_only_when_it_is_worse_by_half() -> None:
    points = [
        held(at, chosen_logps_change_per_token=-fall) for at, fall in ((5, 0.25), (10, 0.3), (15, 0.4), (20, 0.5))
    ]
    found = raised(points)
    assert [(alarm.step, alarm.value) for alarm in found] == [(5, -0.25), (15, -0.4)]


def test_chosen_responses_that_become_less_likely_are_said_with_the_rejected_ones() -> None:
    (found,) = raised([held(5, chosen_logps_change_per_token=-0.3, rejected_logps_change_per_token=-0.9)])
    assert (
        "less likely: -0.30 nats a token against the reference, threshold -0.2; rejected ones -0.90" in found.sentence
    )
    assert fields([held(5, chosen_logps_change_per_token=-0.19)]) == []


def test_a_fall_counts_from_where_training_began_as_the_reference_may_be_another_model() -> None:
    def points(*changes: float) -> list[Metric]:
        return [held(5 * n, chosen_logps_change_per_token=change) for n, change in enumerate(changes)]

    assert fields(points(-0.5, -0.6)) == []
    assert fields(points(0.5, 0.25)) == [("max_chosen_fall_nats", 5)]


def test_drift_counts_from_where_training_began_as_the_reference_may_be_another_model() -> None:
    assert fields([held(0, drift=1.5), held(5, drift=2.4)]) == []
    assert fields([held(0, drift=1.5), held(5, drift=2.6)]) == [("max_drift_nats", 5)]


def test_pairs_all_told_apart_before_any_was_seen_twice_are_too_easy() -> None:
    assert fields(steps(10, accuracy=1.0)) == [("easy_accuracy", 5)]  # steps 2 to 5: 64 pairs
    assert fields([*steps(10, accuracy=0.9), *[step(at, accuracy=1.0) for at in range(11, 41)]]) == []  # later
    again = Training(40, 4, 16, 32, {"human": 32}, {"human": 100})
    assert fields(steps(10, accuracy=1.0), again) == []  # from step 3 on they are seen again


def test_the_length_rule_is_asked_at_the_end() -> None:
    points = [held(at, accuracy=0.6, longer_is_chosen=0.2) for at in (35, 40)]
    (found,) = raised(points)
    assert (found.step, found.value) == (40, pytest.approx(0.2))
    assert "'the shorter is chosen' tells 0.80 of the held-out pairs apart, the model 0.60" in found.sentence


def noisy(mean: float, spread: float, number: int = 30, slope: float = 0.0) -> list[Metric]:
    draw = random.Random(3)
    return [step(at, preference_loss=mean + slope * at + draw.gauss(0, spread)) for at in range(1, number + 1)]


@pytest.mark.parametrize(
    ("low", "high", "accuracy", "is_alarm"),
    [
        (0.06, 0.14, None, False),
        (0.03, 0.3, None, True),  # from a low loss as well, where it swings far
        (0.6, 1.4, None, True),
        (0.06, 0.14, 0.7, True),  # a reward model's is of pairs, not of tokens
    ],
)
def test_a_low_loss_of_sft_hangs_on_few_tokens_and_its_small_swing_is_no_alarm(
    low: float, high: float, accuracy: float | None, *, is_alarm: bool
) -> None:
    began = {"loss": (low + high) / 2} | ({} if accuracy is None else {"accuracy": accuracy})
    points = [Metric(step=0, split="validation", values=began)]
    points += [sft(at, (low, high)[at % 2], "train") for at in range(1, 31)]
    assert ("max_loss_swing" in [field for field, _ in fields(points)]) == is_alarm


@pytest.mark.parametrize(("batch_size", "is_alarm"), [(64, True), (16, True), (4, False), (2, False)])
def test_of_fewer_rows_a_step_a_low_loss_of_sft_varies_more_and_that_is_no_alarm(
    batch_size: int, *, is_alarm: bool
) -> None:
    # 0.147 nats from step to step: more than the 0.1 of 16 rows, less than the 0.2 of 4
    points = [Metric(step=0, split="validation", values={"loss": 0.1})]
    points += [sft(at, (0.03, 0.17)[at % 2], "train") for at in range(1, 31)]
    run = replace(RUN, batch_size=batch_size)
    assert ("max_loss_swing" in [field for field, _ in fields(points, run)]) == is_alarm


def test_a_training_loss_that_swings_and_does_not_fall_oscillates() -> None:
    start = held(0, accuracy=0.0, preference_loss=0.693)
    (found,) = raised([start, *noisy(1.2, 0.4)])
    assert found.field == "alarms.max_loss_swing"
    assert found.value > 0.3
    assert fields([start, *noisy(0.45, 0.3)]) == []  # a small batch of a run that learns
    assert fields([start, *noisy(0.75, 0.03)]) == []


def test_one_spike_is_no_oscillation() -> None:
    points = noisy(0.69, 0.02)
    points[20] = step(21, preference_loss=40.0)
    assert fields([held(0, accuracy=0.0), *points]) == []


def test_deviation_is_that_of_normal_values_whatever_the_trend() -> None:
    draw = random.Random(1)
    values = [0.01 * at + draw.gauss(0, 2.0) for at in range(20_000)]
    assert deviation(values) == pytest.approx(2.0, rel=0.03)


def test_a_held_out_loss_that_goes_up_and_down_twice_oscillates_and_one_that_turns_once_does_not() -> None:
    def curve(*losses: float) -> list[str]:
        return [f for f, _ in fields([held(5 * at, preference_loss=x) for at, x in enumerate(losses)])]

    assert curve(0.7, 1.0, 0.6, 0.9, 0.6) == ["max_loss_swing"]
    assert curve(0.7, 0.5, 0.4, 0.6, 0.8) == []
    assert curve(0.7, 0.75, 0.7, 0.75, 0.7, 0.75) == []  # 7 %


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.floats(0.1, 5))
def test_turns_alternate_by_at_least_the_least(values: list[float], least: float) -> None:
    found = turns(values, least)
    assert set(found) <= set(values)
    for at in range(1, len(found)):
        assert abs(found[at] - found[at - 1]) >= least
    signs = [found[at] > found[at - 1] for at in range(1, len(found))]
    assert all(first != second for first, second in pairwise(signs))


@given(st.lists(st.floats(0, 10), min_size=2, max_size=30))
def test_a_curve_that_only_falls_never_turns(values: list[float]) -> None:
    assert turns(sorted(values, reverse=True), 0.1) == []


def test_overfitting_of_sft_is_a_held_out_loss_that_rises_and_a_gap() -> None:
    losses = {0: 2.0, 10: 1.0, 15: 1.04, 20: 1.06, 25: 1.1}
    points = [*[sft(at, 0.4, "train") for at in range(1, 26)], *[sft(at, loss) for at, loss in losses.items()]]
    found = raised(points)
    assert [(alarm.field, alarm.step) for alarm in found] == [
        ("alarms.max_loss_gap_nats", 15),
        ("alarms.max_loss_rise", 25),
    ]
    assert "1.100, 10% above its lowest, 1.000 at step 10" in found[1].sentence


def test_a_source_whose_loss_rises_while_the_whole_falls_is_not_learnt() -> None:
    run = Training(40, 4, 16, 640, {"tasks": 640}, {"tasks": 50, "chat": 50})
    points = [sft(at, 2 - at / 20, tasks=2 - at / 10, chat=1 + at / 100) for at in (0, 10, 15, 20)]
    (found,) = raised(points, run)
    assert (found.field, found.step) == ("alarms.max_loss_rise", 15)
    assert "chat is forgotten, being not trained on: its held-out loss rose from 1.000 to 1.150" in found.sentence


def test_a_rise_of_thousandths_of_a_nat_is_no_alarm_of_sft_and_one_of_hundredths_is() -> None:
    # the curve of a run on the student's own replies that solved 16 more problems in a hundred
    curve = {0: (0.0770, 0.0792, 0.0254), 27: (0.0949, 0.0973, 0.0377), 54: (0.0836, 0.0859, 0.0289)}
    run = Training(55, 4, 16, 440, {"own": 440}, {"tasks": 400, "own": 16})
    points = [sft(at, loss, tasks=tasks, own=own) for at, (loss, tasks, own) in curve.items()]
    assert not raised(points, run)
    stayed = [*points[:2], sft(54, 0.0900, tasks=0.0900, own=0.0360)]
    assert [alarm.field for alarm in raised(stayed, run)] == ["alarms.max_loss_rise"] * 3


def rises(curve: dict[int, tuple[float, int | None]], **rules: object) -> list[Alarm]:
    """Alarms of a rising loss, by step the loss of DPO and how many of 60 problems are solved; None: none asked."""
    asked = {at: {} if right is None else {"solved": right / 60, "problems": 60.0} for at, (_, right) in curve.items()}
    points = [held(at, loss=loss, **asked[at]) for at, (loss, _) in curve.items()]
    return [alarm for alarm in raised(points, **rules) if alarm.field == "alarms.max_loss_rise"]


@pytest.mark.parametrize(
    ("late", "is_alarm"), [((40, 41), False), ((41, 40), False), ((41, 32), True), ((32, 41), True), ((28, 28), True)]
)
def test_a_loss_that_rises_is_no_alarm_where_clearly_more_problems_are_solved_at_each_of_the_last_validations(
    late: tuple[int, int], is_alarm: bool
) -> None:
    assert bool(rises({0: (1.017, 30), 10: (1.09, late[0]), 15: (1.113, late[1])})) == is_alarm


def test_more_solved_than_before_training_does_not_excuse_what_came_after_the_lowest_loss() -> None:
    (found,) = rises({0: (2.0, 4), 10: (1.0, 36), 15: (1.5, 30), 20: (2.0, 27)})
    assert found.step == 20
    assert "1.000 at step 10" in found.sentence


def test_whoever_asks_no_problems_is_told_that_they_can_be_asked() -> None:
    (asking,), (asked,) = (rises({0: (1.0, right), 10: (1.1, right), 15: (1.2, right)}) for right in (None, 30))
    assert asking.advice.removeprefix(asked.advice).startswith(" The loss of a student's own replies may rise")


def test_the_same_points_give_the_same_alarms_wherever_the_run_was_cut() -> None:
    points = [
        *steps(20, accuracy=0.95),
        held(15, accuracy=0.5),
        held(20, accuracy=0.45, chosen_logps_change_per_token=-1),
    ]
    whole = raised(points)
    assert len(whole) > 2
    for cut in range(len(points)):
        first, second = Watch("dpo/arm", Alarms(), RUN), Watch("dpo/arm", Alarms(), RUN)
        before = [alarm for point in points[:cut] for alarm in first.see(point)]
        assert [alarm for point in points[:cut] for alarm in second.see(point)] == before
        assert [*before, *(alarm for point in points[cut:] for alarm in second.see(point))] == whole


@given(steps=st.integers(1, 80), every=st.integers(1, 90), warmup=st.integers(0, 40), wanted=st.integers(1, 4))
def test_a_run_with_too_few_validations_for_an_alarm_is_told_what_would_do(
    steps: int, every: int, warmup: int, wanted: int
) -> None:
    def looks(interval: int) -> int:
        looked_at = {step for step in range(1, steps + 1) if step % interval == 0 or step == steps}
        return sum(step >= first for step in looked_at)

    run = Training(steps, min(warmup, steps // 2), 16, 640, {"human": 640}, {"human": 100}, every)
    watch = Watch("dpo/x", Alarms(validations=wanted), run)
    first = max(math.ceil(0.25 * steps), run.warmup_steps, 1)
    told = watch.silence
    if told is None:
        assert looks(every) >= wanted or steps - first < wanted
    else:
        assert looks(every) < wanted <= looks(int(told.rsplit("; ", 1)[1].split()[0]))
        assert f"validate_every_steps = {every} makes {looks(every)}:" in told


def test_where_nothing_is_held_out_there_is_nothing_to_tell() -> None:
    assert Watch("dpo/x", Alarms(), Training(40, 4, 16, 640, {"human": 640}, {}, 40)).silence is None
