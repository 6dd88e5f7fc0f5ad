"""Repetition and diversity by hand and at their ends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.statistics import distinct_n, repetition_rate


def test_repetition_by_hand() -> None:
    # Bigrams of "a b a b a": ab ba ab ba, two of four distinct.
    assert repetition_rate("a b a b a", n=2) == 0.5
    assert repetition_rate([1, 2, 1, 2, 1], n=2) == 0.5
    assert repetition_rate("So it goes. so IT goes.", n=3) == 0.25


def test_a_text_without_an_n_gram_has_no_rate_rather_than_zero() -> None:
    assert repetition_rate("three words only") is None
    assert repetition_rate("four words are enough") == 0.0


def test_distinct_n_counts_over_all_texts_together() -> None:
    # ab bc | ab bd: three of four distinct; no bigram spans two texts.
    assert distinct_n(["a b c", "a b d"], n=2) == 0.75
    assert distinct_n([[1, 2, 3]], n=1) == 1.0


def test_no_n_gram_at_all_is_an_error() -> None:
    for texts in ([], ["word", ""]):
        with pytest.raises(InputError):
            distinct_n(texts, n=2)
    with pytest.raises(InputError):
        repetition_rate("a b", n=0)


@given(tokens=st.lists(st.integers(0, 5), min_size=4, max_size=60))
@settings(max_examples=60, deadline=None)
def test_one_text_repeats_what_it_does_not_say_anew(tokens: list[int]) -> None:
    rate = repetition_rate(tokens)
    assert rate is not None
    assert 0.0 <= rate < 1.0
    assert rate + distinct_n([tokens], n=4) == pytest.approx(1.0)
    doubled = repetition_rate(tokens * 3)
    assert doubled is not None
    assert doubled >= rate
