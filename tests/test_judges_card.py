"""A judge's card: its accuracy beside that of length, and limits that follow from the numbers."""

import math
from random import Random

import pytest

from limbeck.errors import InputError
from limbeck.judges.card import judge_card
from limbeck.records import Pair, user_prompt
from limbeck.records.verdict import JudgeCard


def pairs(number: int, longer_chosen: int, source: str = "human") -> list[Pair]:
    """Pairs of which the first `longer_chosen` have the longer response as the chosen one."""
    return [
        Pair(
            id=f"{source}{n}",
            prompt=user_prompt(f"{source} {n}"),
            source=source,
            chosen="yes, indeed" if n < longer_chosen else "yes",
            rejected="no no no",
        )
        for n in range(number)
    ]


def card(rows: list[Pair], margins: list[float]) -> JudgeCard:
    return judge_card("local", "a judge", rows, margins, seed=1, confidence=0.95)


def test_accuracy_stands_beside_the_longer_responses_on_the_same_pairs() -> None:
    found = card(pairs(400, 240), [1.0] * 320 + [-1.0] * 80)
    assert found.accuracy is not None
    assert found.longer_is_chosen is not None
    assert found.beyond_longer is not None
    assert (found.accuracy.estimate, found.accuracy.n) == (0.8, 400)
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((0.7580, 0.8363), abs=1e-4)  # Wilson, by hand
    assert found.longer_is_chosen.estimate == 0.6
    assert found.beyond_longer.estimate == pytest.approx(0.2)
    sure = 1 / (1 + math.exp(-1))
    assert found.calibration_error == pytest.approx(0.8 - sure)
    assert [(each.n, each.observed) for each in found.reliability] == [(400, 0.8)]
    assert found.reliability[0].predicted == pytest.approx(sure)
    assert found.limits == ()


def test_a_judge_that_only_counts_words_is_told_so() -> None:
    rows = pairs(400, 260)
    found = card(rows, [float(len(row.chosen) - len(row.rejected)) for row in rows])
    assert any(
        limit.startswith("not clearly better than picking the longer response, which is right on 65.0%")
        for limit in found.limits
    )


def test_a_judge_that_does_worse_than_length_is_told_so() -> None:
    found = card(pairs(400, 360), [1.0] * 240 + [-1.0] * 160)
    assert any(limit.startswith("clearly worse than picking the longer response") for limit in found.limits)


def test_a_judge_at_chance_on_few_pairs_is_told_both() -> None:
    rng = Random(0)
    found = card(pairs(50, 10), [rng.choice([-3.0, 3.0]) for _ in range(50)])
    said = " | ".join(found.limits)
    assert "not clearly better than chance" in said
    assert "measured on 50 pairs only" in said
    assert "surer than it may be" in said


def test_sources_have_figures_of_their_own_where_there_are_several() -> None:
    rows = [*pairs(200, 50), *pairs(200, 150, "made")]
    found = card(rows, [1.0] * 200 + [1.0, -1.0] * 100)
    assert {source: each.estimate for source, each in found.accuracy_by_source.items()} == {"human": 1.0, "made": 0.5}
    assert {name: each.estimate for name, each in found.longer_is_chosen_by_source.items()} == {
        "human": 0.25,
        "made": 0.75,
    }
    assert "not clearly better than chance on pairs of made" in found.limits
    assert card(pairs(3, 1), [1.0] * 3).accuracy_by_source == {}


def test_equal_scores_count_half_and_are_told() -> None:
    found = card(pairs(300, 0), [0.0] * 100 + [1.0] * 200)
    assert found.accuracy is not None
    assert found.accuracy.estimate == pytest.approx(250 / 300)
    assert "gives both responses the same score on 33.3% of the pairs" in found.limits


def test_no_pair_is_an_error_and_so_is_a_margin_that_is_not_finite() -> None:
    with pytest.raises(InputError, match="without pairs"):
        card([], [])
    with pytest.raises(InputError, match="not a finite number"):
        card(pairs(2, 1), [1.0, math.nan])
