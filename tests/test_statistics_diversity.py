"""Repetition and diversity by hand and at their ends."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from limbeck.errors import InputError
from limbeck.statistics import distinct_n, repetition_rate, self_bleu, vendi_score
from limbeck.statistics.words import count_grams, words_of


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


def test_self_bleu_by_hand() -> None:
    # "a b c d" and "a b x y", up to bigrams: 2 of 4 words and 1 of 3 bigrams of each are in the other.
    assert self_bleu(["a b c d", "a b x y"], n=2) == pytest.approx((1 / 2 * 1 / 3) ** 0.5)
    # "a b" against "a b a b": all its 2 words and 1 bigram match, but it is half as long: e^(1 - 4/2). The other way,
    # 2 of 4 words (each count cut at 1) and 1 of 3 bigrams.
    assert self_bleu(["a b", "a b a b"], n=2) == pytest.approx((math.exp(-1) + (1 / 2 * 1 / 3) ** 0.5) / 2)
    # No bigram in common: 0.1 stands for no match (Chen and Cherry 2014, method 1).
    assert self_bleu(["a b", "b a"], n=2) == pytest.approx((1 * 0.1 / 1) ** 0.5)


def test_self_bleu_at_its_ends() -> None:
    assert self_bleu(["the same few words", "The same few words"]) == pytest.approx(1.0)
    assert self_bleu(["yes"] * 3) == pytest.approx(1.0)  # judged by the orders that it has
    assert self_bleu(["one two", "three four", ""]) == 0.0
    with pytest.raises(InputError, match="1 of 2 texts have words"):
        self_bleu(["alone", " "])


@given(texts=st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=9), min_size=2, max_size=6))
@settings(max_examples=80, deadline=None)
def test_self_bleu_is_that_of_every_text_against_the_others_one_by_one(texts: list[list[str]]) -> None:
    slow = [slow_bleu(text, texts[:place] + texts[place + 1 :]) for place, text in enumerate(texts)]
    assert self_bleu(texts) == pytest.approx(sum(slow) / len(slow))


def slow_bleu(text: list[str], others: list[list[str]]) -> float:
    """BLEU as Papineni et al. 2002 define it, with every reference looked at."""
    product, orders = 1.0, 0
    for n in range(1, 5):
        grams = Counter(tuple(text[at : at + n]) for at in range(len(text) - n + 1))
        if not grams:
            break
        references = [Counter(tuple(other[at : at + n]) for at in range(len(other) - n + 1)) for other in others]
        matched = sum(min(number, max(other[gram] for other in references)) for gram, number in grams.items())
        if n == 1 and not matched:
            return 0.0
        product, orders = product * (matched or 0.1) / sum(grams.values()), orders + 1
    closest = min((len(other) for other in others), key=lambda length: (abs(length - len(text)), length))
    return product ** (1 / orders) * min(1.0, math.exp(1 - closest / len(text)))


@pytest.mark.parametrize("dense", [True, False])
def test_the_vendi_score_counts_different_texts(dense: bool) -> None:
    def score(rows: list[list[float]]) -> float:
        return vendi_score(np.array(rows) if dense else sparse.csr_matrix(rows))

    assert score([[1, 2, 3, 4, 5]] * 4) == pytest.approx(1.0)
    assert score(np.eye(5).tolist()) == pytest.approx(5.0)
    assert score([[3, 0, 0], [2, 0, 0], [0, 7, 0], [0, 1, 0]]) == pytest.approx(2.0)
    # Two vectors with cosine 1/2: eigenvalues 3/4 and 1/4 of K / 2.
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert score([[1, 0], [0.5, 0.75**0.5]]) == pytest.approx(math.exp(entropy))


def test_a_text_without_words_has_no_vendi_score() -> None:
    for rows in (np.zeros((2, 3)), np.zeros((0, 3))):
        with pytest.raises(InputError):
            vendi_score(rows)


def test_words_are_folded_and_signs_and_line_breaks_count() -> None:
    assert words_of("So, **It** goes.\n- 3rd") == ["so", ",", "*", "*", "it", "*", "*", "goes", ".", "\n", "-", "3rd"]
    assert words_of("東京 Ok") == ["東", "京", "ok"]


def test_grams_are_counted_where_enough_texts_have_them() -> None:
    counts = count_grams([["a", "b", "a"], ["b", "c"]], longest=2)
    assert counts.grams == ("a", "b", "a b", "b a", "c", "b c")
    assert counts.matrix.toarray().tolist() == [[2, 1, 1, 1, 0, 0], [0, 1, 0, 0, 1, 1]]
    assert count_grams([["a", "b", "a"], ["b", "c"]], least_texts=2).grams == ("b",)
