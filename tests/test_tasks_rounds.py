"""Problems of further rounds: new in content, and no reason for anything to move."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import RecipeError
from limbeck.records import PromptRow
from limbeck.tasks import Split, draw_rounds, draw_splits

COUNTS: dict[Split, int] = {"test": 6, "transfer": 3, "validation": 4, "sft": 5, "pool": 8, "fresh": 7}
FAMILIES = ("chain_sum", "leg_counting")


def contents(rows: tuple[PromptRow, ...]) -> list[str]:
    return [row.problem.content for row in rows if row.problem]


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=5, deadline=None)
def test_no_content_and_no_id_occurs_twice_in_all_rounds(seed: int) -> None:
    rows = tuple(row for drawn in draw_rounds(COUNTS, FAMILIES, seed, 4) for part in drawn.values() for row in part)
    assert len(rows) == sum(COUNTS.values()) + 3 * (COUNTS["pool"] + COUNTS["fresh"])
    assert len(set(contents(rows))) == len({row.id for row in rows}) == len(rows)


def test_a_further_round_draws_pool_and_fresh_and_moves_nothing_of_fewer_rounds() -> None:
    first, *further = draw_rounds(COUNTS, FAMILIES, 5, 3)
    assert first == draw_splits(COUNTS, FAMILIES, 5)
    assert [{split: len(rows) for split, rows in drawn.items()} for drawn in further] == [{"pool": 8, "fresh": 7}] * 2
    assert draw_rounds(COUNTS, FAMILIES, 5, 2) == [first, further[0]]


def test_where_a_family_has_no_more_the_round_is_named() -> None:
    # A little under 2,000 questions about a calendar are found: those of two rounds are there, those of three are not.
    with pytest.raises(RecipeError, match=r"'pool' of round 3: \d+ of 900 found\. Ask for fewer rows or rounds"):
        draw_rounds({"pool": 900}, ("calendar_arithmetic",), 1, 3)
