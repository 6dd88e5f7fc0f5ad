"""The orders of a training stream, each against the sentence that the recipe says of it."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from limbeck.records import PromptRow, user_prompt
from limbeck.stream import appended, in_ratio, interleaved, spread, stream_order

NUMBERS = st.integers(0, 40)
SHARES = st.integers(1, 99).map(lambda percent: percent / 100)


def rows(source: str, number: int) -> list[PromptRow]:
    return [PromptRow(id=f"{source}{n}", prompt=user_prompt(f"{source} {n}"), source=source) for n in range(number)]


def letters(mixed: Sequence[PromptRow]) -> str:
    return "".join(row.source for row in mixed)


def of(source: str, mixed: Sequence[PromptRow]) -> list[PromptRow]:
    return [row for row in mixed if row.source == source]


@given(NUMBERS, NUMBERS, SHARES)
def test_every_row_comes_once_and_each_side_in_its_own_order(human: int, synthetic: int, share: float) -> None:
    h, s = rows("h", human), rows("s", synthetic)
    for mixed in (appended(h, s), in_ratio(h, s, share), interleaved(h, s, {})):
        assert (of("h", mixed), of("s", mixed), len(mixed)) == (h, s, human + synthetic)


def test_each_order_by_hand() -> None:
    h, s = rows("h", 5), rows("s", 2)
    assert letters(appended(h, s)) == "hhhhhss"
    assert letters(interleaved(h, s, {})) == "hshshhh"
    assert letters(interleaved(h[:1], s, {})) == "hss"
    assert letters(in_ratio(h, s, 0.25)) == "hshhhsh"  # 1/4, 2/4, 3/4 ... of a row, rounded half up
    assert letters(in_ratio(h, s, 0.5)) == "shshhhh"
    assert letters(in_ratio(h[:1], s, 0.25)) == "hss"


@given(NUMBERS, NUMBERS)
def test_interleaving_puts_a_synthetic_row_at_every_other_position_until_one_side_is_used_up(h: int, s: int) -> None:
    both = min(h, s)
    assert letters(interleaved(rows("h", h), rows("s", s), {})) == "hs" * both + "h" * (h - both) + "s" * (s - both)


@given(NUMBERS, NUMBERS, SHARES, st.integers(1, 16))
def test_every_mini_batch_holds_its_share_and_what_is_rounded_off_is_carried_over(
    human: int, synthetic: int, share: float, batch_size: int
) -> None:
    mixed = letters(in_ratio(rows("h", human), rows("s", synthetic), share))
    exact = Fraction(round(100 * share), 100)
    alone = len(mixed.rstrip(mixed[-1:]))  # where the rest of one kind may begin
    for start in range(0, alone - batch_size + 1, batch_size):
        end = start + batch_size
        # Rounded half up, in whole numbers: the slow form of "carried over".
        wanted = (2 * end * exact + 1) // 2 - (2 * start * exact + 1) // 2
        assert mixed[start:end].count("s") == wanted
        assert abs(wanted - batch_size * exact) < 1


@given(st.integers(0, 30), st.integers(1, 8), st.integers(1, 8))
def test_where_the_share_of_a_batch_is_a_whole_number_every_window_holds_it(
    offset: int, synthetic: int, human: int
) -> None:
    """Wherever a batch begins: rows before it may have been dropped as too long."""
    size = synthetic + human
    share = synthetic / size
    assume(Fraction(str(share)) == Fraction(synthetic, size))  # 1/3 has no decimal fraction
    mixed = letters(in_ratio(rows("h", 12 * human), rows("s", 12 * synthetic), share))
    assert len(mixed) == 12 * size
    start = offset % (11 * size)
    assert mixed[start : start + size].count("s") == synthetic


@given(st.data(), st.integers(1, 12))
def test_a_row_with_a_place_stands_right_after_its_human_row_and_the_others_at_every_other_position(
    data: st.DataObject, human: int
) -> None:
    h, placed, free = rows("h", human), rows("p", data.draw(st.integers(0, 12))), rows("s", data.draw(NUMBERS))
    places = {row.id: f"h{data.draw(st.integers(0, human - 1))}" for row in placed}
    mixed = interleaved(h, [*placed, *free], places)
    assert Counter(row.id for row in mixed) == Counter(row.id for row in (*h, *placed, *free))
    before = {second.id: first for first, second in pairwise(mixed)}
    for row in placed:
        leader = before[row.id]
        while leader.source == "p":  # several rows of one place stand one after the other
            assert places[leader.id] == places[row.id]
            leader = before[leader.id]
        assert leader.id == places[row.id]
    alone = [row for row in h if row.id not in places.values()]
    follows = {first.id for second, first in before.items() if second.startswith("s") and first.source == "h"}
    assert follows == {row.id for row in alone[: len(free)]}


def test_a_place_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="no human row 'gone'"):
        interleaved(rows("h", 2), rows("p", 1), {"p0": "gone"})


@given(st.permutations(range(9)), st.integers(0, 9))
def test_the_order_of_a_file_decides_nothing_and_the_seed_everything(order: list[int], seed: int) -> None:
    there = rows("h", 9)
    shuffled = [there[n] for n in order]
    for arrange in (stream_order, spread):
        assert arrange(shuffled, seed) == arrange(there, seed)
        assert arrange(there, seed + 10) != arrange(there, seed)


def test_arms_that_share_rows_have_them_in_one_order() -> None:
    more = rows("s", 30)
    fewer = spread(more[::2], seed=1)
    assert [row for row in spread(more, seed=1) if row in fewer] == fewer
