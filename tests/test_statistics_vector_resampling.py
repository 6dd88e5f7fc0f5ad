"""The bootstrap of sums: its three ways of drawing have the moments that a resample has."""

import numpy as np
import pytest

from limbeck.statistics.vector_resampling import bootstrap_sums, codes_of_rows, first_seen


# few kinds; more than 256 kinds; more than 256 kinds of more than 2,048 prompts
@pytest.mark.parametrize(("num_prompts", "num_kinds"), [(500, 20), (600, 600), (3000, 700)])
def test_the_sums_have_the_mean_and_covariance_of_a_resample(num_prompts: int, num_kinds: int) -> None:
    generator = np.random.default_rng(num_kinds)
    vectors = generator.integers(0, 4, (num_kinds, 3)).astype(float)
    vectors[:, 2] += vectors[:, 0]
    codes = np.concatenate([np.arange(num_kinds), generator.integers(0, num_kinds, num_prompts - num_kinds)])
    sums = bootstrap_sums(codes, vectors, None, seed=1, resamples=20_000)
    rows = vectors[codes]
    expected = np.cov(rows.T, bias=True) * num_prompts
    assert sums.mean(axis=0) == pytest.approx(rows.sum(axis=0), abs=0.05 * float(np.sqrt(expected.max())))
    assert np.cov(sums.T) == pytest.approx(expected, abs=0.05 * float(expected.max()))


def test_strata_keep_their_numbers_of_prompts() -> None:
    # The column counts prompts of the first stratum: it cannot vary.
    codes, strata = np.array([0, 1, 2, 3] * 25), np.array([0, 0, 1, 1] * 25)
    vectors = np.array([[1.0, 5.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    sums = bootstrap_sums(codes, vectors, strata, seed=0, resamples=200)
    assert (sums[:, 0] == 50).all()
    assert sums[:, 1].std() > 0


def test_rows_are_numbered_by_what_they_hold_in_order_of_first_appearance() -> None:
    assert codes_of_rows(np.array([[2, -1], [0, 0], [2, -1], [0, 1]], dtype=np.int8)).tolist() == [0, 1, 0, 2]
    wide = np.random.default_rng(0).integers(-1, 3, (400, 90)).astype(np.int8)  # too wide for one number
    wide[200:] = wide[:200][::-1]
    assert codes_of_rows(wide).tolist() == [*range(200), *range(199, -1, -1)]
    assert first_seen(np.array([7, 3, 7, -1])).tolist() == [0, 1, 0, 2]
