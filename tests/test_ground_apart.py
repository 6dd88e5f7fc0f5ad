"""Pairs for the judge alone: by how a conversation opens, as many as are asked for, none shared by two judges."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from limbeck.apart import part, prompts_to_set_aside, shared_out
from limbeck.likeness import opening
from limbeck.records import Message, Pair


def pair(number: int, said: str, *later: str) -> Pair:
    turns = [Message(role="user", content=said)]
    for text in later:
        turns += [Message(role="assistant", content="Go on."), Message(role="user", content=text)]
    return Pair(id=str(number), prompt=tuple(turns), source="human", chosen="a", rejected="b")


LISTS = st.lists(st.integers(0, 9), max_size=30).map(lambda said: [pair(n, f"ask {s}") for n, s in enumerate(said)])


@given(LISTS, st.integers(0, 20), st.integers(0, 3))
def test_what_is_set_aside_is_at_most_what_was_asked_for_and_whole(rows: list[Pair], most: int, seed: int) -> None:
    parted = part(rows, prompts_to_set_aside(rows, most, seed))
    assert len(parted.aside) <= most
    assert len(parted.aside) + len(parted.rest) == len(rows)
    assert {opening(row) for row in parted.aside}.isdisjoint(opening(row) for row in parted.rest)


@given(LISTS, st.integers(0, 3))
def test_two_judges_share_all_pairs_and_no_prompt(rows: list[Pair], seed: int) -> None:
    shares = shared_out(rows, ("reward", "reward_mine"), seed)
    first, second = shares["reward"], shares["reward_mine"]
    assert sorted(row.id for row in (*first, *second)) == sorted(row.id for row in rows)
    assert {opening(row) for row in first}.isdisjoint(opening(row) for row in second)
    prompts = [len({opening(row) for row in share}) for share in (first, second)]
    assert prompts[0] - prompts[1] in {0, 1}


def test_the_choice_does_not_depend_on_the_order_of_the_file_and_does_on_the_seed() -> None:
    rows = [pair(n, f"ask {n}") for n in range(40)]
    assert prompts_to_set_aside(rows, 10, 1) == prompts_to_set_aside(rows[::-1], 10, 1)
    assert prompts_to_set_aside(rows, 10, 1) != prompts_to_set_aside(rows, 10, 2)


def test_two_places_of_one_dialogue_go_together() -> None:
    rows: Sequence[Pair] = [pair(0, "Hello"), pair(1, "Hello", "And then?"), pair(2, "Bye")]
    aside = part(rows, {opening(rows[0])}).aside
    assert [row.id for row in aside] == ["0", "1"]
