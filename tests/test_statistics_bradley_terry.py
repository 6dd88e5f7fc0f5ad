"""Bradley-Terry: by hand, against published strengths and the slow form, at its ends, and its bootstrap."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.statistics import bradley_terry
from limbeck.statistics.bradley_terry import fit_strengths
from limbeck.statistics.resampling import FloatArray


def test_two_arms_by_hand() -> None:
    # 3 wins, 1 tie, 1 loss, and half a win for each side: ln(4 / 2).
    scores = {"sft": [0.0, 0.0, 0.0, 1.0, 1.0, None], "dpo": [1.0, 1.0, 1.0, 1.0, 0.0, 1.0]}
    found = bradley_terry(scores, baseline="sft", seed=0)
    assert [s.arm for s in found.strengths] == ["sft", "dpo"]
    assert tuple(found.strengths[0])[1:] == (0.0, 0.0, 0.0, 5)
    assert found.strengths[1].log_odds == pytest.approx(math.log(2), abs=1e-9)
    assert (found.strengths[1].num_rows, found.num_prompts) == (5, 5)


def test_the_strengths_of_seven_baseball_teams_are_those_published() -> None:
    # American League East 1987 (Agresti 2002, "Categorical Data Analysis", table 10.10); log-odds against Baltimore as
    # Turner and Firth 2012, "Bradley-Terry models in R", give them. Without the added ties: half a win is taken off.
    wins = np.array([  # Milwaukee, Detroit, Toronto, New York, Boston, Cleveland, Baltimore
        [0, 7, 9, 7, 7, 9, 11], [6, 0, 7, 5, 11, 9, 9], [4, 6, 0, 7, 7, 8, 12], [6, 8, 6, 0, 6, 7, 10],
        [6, 2, 6, 7, 0, 7, 12], [4, 4, 5, 6, 6, 0, 6], [2, 4, 1, 3, 1, 7, 0],
    ], dtype=float)  # fmt: skip
    assert (wins + wins.T == 13 * (1 - np.eye(7))).all()
    found = fit_strengths((wins - 0.5 * (1 - np.eye(7)))[None], zero=6)[0]
    assert found == pytest.approx([1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839, 0.0], abs=1e-4)


def slow_strengths(wins: FloatArray, zero: int) -> FloatArray:
    """Zermelo's iteration (Hunter 2004, equation 3), with the added ties."""
    won = wins + 0.5 * (1 - np.eye(len(wins)))
    games, abilities = won + won.T, np.ones(len(wins))
    for _ in range(20_000):
        abilities = won.sum(axis=1) / (games / (abilities[:, None] + abilities)).sum(axis=1)
        abilities /= abilities[zero]
    return np.log(abilities)


@given(counts=st.lists(st.integers(0, 30), min_size=12, max_size=12), zero=st.integers(0, 3))
@settings(max_examples=8, deadline=None)
def test_newton_finds_what_zermelos_iteration_finds(counts: list[int], zero: int) -> None:
    wins = np.zeros((4, 4))
    wins[~np.eye(4, dtype=bool)] = counts
    assert fit_strengths(wins[None], zero)[0] == pytest.approx(slow_strengths(wins, zero), abs=1e-5)


def gumbel_scores(n: int, strengths: list[float], seed: int) -> dict[str, list[float | None]]:
    """Scores whose comparisons follow the model exactly: the difference of two Gumbel variables is logistic."""
    luck = np.random.default_rng(seed).gumbel(size=(len(strengths), n))
    return {f"arm{at}": (luck[at] + strength).tolist() for at, strength in enumerate(strengths)}


def test_an_arm_that_wins_all_is_far_up_and_finite() -> None:
    scores = gumbel_scores(100, [0.0, 0.3], seed=1) | {"best": [99.0] * 100}
    best = bradley_terry(scores, baseline="arm0", seed=0).strengths[2]
    # Against each of the two others 100 wins and half a win against half.
    assert best.log_odds == pytest.approx(math.log(201), abs=0.3)
    assert all(math.isfinite(value) for value in (best.low, best.high))


def test_arms_that_always_tie_are_equally_strong() -> None:
    found = bradley_terry({name: [1.0] * 30 for name in "abc"}, baseline="b", seed=0)
    assert [tuple(s)[1:] for s in found.strengths] == [(0.0, 0.0, 0.0, 30)] * 3


def test_another_baseline_shifts_the_scale_and_nothing_else() -> None:
    scores = gumbel_scores(150, [0.0, 0.5, -0.4], seed=2)
    one, two = (bradley_terry(scores, baseline=name, seed=0) for name in ("arm0", "arm1"))
    shift = one.strengths[1].log_odds
    assert [s.log_odds - shift for s in one.strengths] == pytest.approx([s.log_odds for s in two.strengths], abs=1e-7)
    mirrored = (-two.strengths[0].high, -two.strengths[0].low)
    assert (one.strengths[1].low, one.strengths[1].high) == pytest.approx(mirrored, abs=1e-7)


@pytest.mark.parametrize("samples", [1, 3])
def test_the_interval_is_that_of_the_slow_bootstrap_over_prompts(samples: int) -> None:
    n, resamples = 200, 2000
    scores = gumbel_scores(n * samples, [0.0, 0.6, -0.3, 0.1], seed=3)
    table = np.array([scores[name] for name in scores], dtype=float)
    beats = (table[:, None] > table[None]).astype(float)  # [arms, arms, rows]
    prompts = np.arange(n * samples).reshape(n, samples)
    drawn = prompts[np.random.default_rng(1).integers(0, n, (resamples, n))].reshape(resamples, -1)
    refits = fit_strengths(np.stack([beats[:, :, rows].sum(axis=2) for rows in drawn]), zero=0)
    clusters = np.repeat(np.arange(n), samples).tolist() if samples > 1 else None
    found = bradley_terry(scores, baseline="arm0", seed=0, clusters=clusters)
    assert found.num_prompts == n
    for at in (1, 2, 3):
        expected = np.quantile(refits[:, at], [0.025, 0.975])
        bounds = (found.strengths[at].low, found.strengths[at].high)
        assert bounds == pytest.approx(expected, abs=0.12 * refits[:, at].std())


def test_scores_without_an_answer_are_refused() -> None:
    with pytest.raises(InputError, match="arm b has no scored row"):
        bradley_terry({"a": [1.0, 2.0], "b": [None, None]}, baseline="a", seed=0)
    with pytest.raises(InputError, match="No row compares b, c with a"):
        bradley_terry({"a": [1.0, None], "b": [None, 1.0], "c": [None, 2.0]}, baseline="a", seed=0)
    with pytest.raises(InputError, match="need the baseline 'z' and another arm; there are a, b"):
        bradley_terry({"a": [1.0], "b": [1.0]}, baseline="z", seed=0)
    with pytest.raises(InputError, match="same rows: there are 1 and 2"):
        bradley_terry({"a": [1.0], "b": [1.0, 2.0]}, baseline="a", seed=0)
    with pytest.raises(InputError, match="Row 1 of b has the score nan"):
        bradley_terry({"a": [1.0, 1.0], "b": [1.0, math.nan]}, baseline="a", seed=0)
    with pytest.raises(InputError, match="clusters must have one label a row"):
        bradley_terry({"a": [1.0, 1.0], "b": [1.0, 2.0]}, baseline="a", seed=0, clusters=["x"])


def test_a_hundred_thousand_prompts_of_five_arms_take_about_a_second_at_most() -> None:
    scores = gumbel_scores(100_000, [0.0, 0.1, 0.2, 0.3, 0.4], seed=0)
    times = []
    for _ in range(3):  # the best of three: linear algebra spins on a busy machine
        start = time.process_time()
        bradley_terry(scores, baseline="arm0", seed=0)
        times.append(time.process_time() - start)
    assert min(times) < 1.5  # 0.3 s on one idle core
