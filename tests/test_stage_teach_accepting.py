"""When a kind has enough pairs: rounds, the cap, prompts that run out, and an order that a higher goal only adds to."""

from collections.abc import Sequence
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from limbeck.recipe.pairs import Screen
from limbeck.records import Pair, user_prompt
from limbeck.screening import Screener
from limbeck.stages.teach.accepting import Collected, collect

GATE = Screener(Screen(), [])
GOOD, SCREENED, FAILED = "good", "screened", "failed"


class Fixed:
    """Candidates whose fate is written down; `rounds` holds how many each round tried."""

    def __init__(self, fates: Sequence[str]) -> None:
        self._left = iter(enumerate(fates))
        self.rounds: list[int] = []

    def make(self, number: int) -> list[Pair | None]:
        """The next ones."""
        made = [None if fate == FAILED else pair(place, fate) for place, fate in islice(self._left, number)]
        self.rounds.append(len(made))
        return made


def pair(place: int, fate: str) -> Pair:
    rejected = "the answer" if fate == SCREENED else "another"
    return Pair(
        id=str(place), prompt=user_prompt(f"prompt {place}"), source="s", chosen="the answer", rejected=rejected
    )


def ids(pairs: Sequence[Pair]) -> list[str]:
    return [pair.id for pair in pairs]


def test_as_many_are_tried_as_are_missing_until_the_goal_is_reached() -> None:
    maker = Fixed([GOOD, SCREENED, GOOD, FAILED, GOOD, SCREENED, GOOD, GOOD])
    found = collect(maker, 4, 8, GATE.start())
    assert maker.rounds == [4, 2, 1]
    assert ids(found.pairs) == ["0", "1", "2", "4", "5", "6"]
    assert ids(found.accepted) == ["0", "2", "4", "6"]
    assert (found.candidates, found.exhausted, dict(found.screened_out)) == (7, None, {"equal answers": 2})


def test_it_ends_at_the_cap_and_says_so() -> None:
    maker = Fixed([GOOD, FAILED, FAILED, GOOD, GOOD, GOOD])
    found = collect(maker, 4, 5, GATE.start())
    assert maker.rounds == [4, 1]
    assert (len(found.accepted), found.candidates, found.exhausted) == (3, 5, "max_candidates tried")


def test_it_ends_where_there_are_no_more_prompts_and_says_so() -> None:
    found = collect(Fixed([GOOD, FAILED, GOOD]), 4, 100, GATE.start())
    assert (len(found.accepted), found.candidates, found.exhausted) == (2, 3, "no prompt left")
    assert collect(Fixed([]), 4, 100, GATE.start()).exhausted == "no prompt left"


def test_the_last_prompt_may_reach_the_goal() -> None:
    assert collect(Fixed([GOOD, FAILED, GOOD, GOOD]), 3, 4, GATE.start()).exhausted is None


def test_a_second_pair_on_one_prompt_is_not_accepted() -> None:
    class Same(Fixed):
        def make(self, number: int) -> list[Pair | None]:
            return [made and made.model_copy(update={"prompt": user_prompt("one")}) for made in super().make(number)]

    found = collect(Same([GOOD] * 6), 2, 6, GATE.start())
    assert (len(found.accepted), dict(found.screened_out)) == (1, {"duplicate prompt": 5})


def test_who_looks_after_each_round_can_end_it() -> None:
    class EnoughError(Exception):
        pass

    def look(found: Collected) -> None:
        if found.candidates > 4:
            raise EnoughError

    maker = Fixed([FAILED] * 20)
    try:
        collect(maker, 3, 20, GATE.start(), look)
    except EnoughError:
        assert maker.rounds == [3, 3]
    else:
        raise AssertionError("it went on")


FATES = st.lists(st.sampled_from([GOOD, SCREENED, FAILED]), max_size=30)


@given(FATES, st.integers(1, 12), st.integers(0, 5), st.integers(1, 30), st.integers(0, 8))
def test_a_higher_goal_or_cap_only_adds_pairs(fates: list[str], goal: int, more: int, cap: int, wider: int) -> None:
    few = collect(Fixed(fates), goal, cap, GATE.start())
    many = collect(Fixed(fates), goal + more, cap + wider, GATE.start())
    assert ids(many.pairs)[: len(few.pairs)] == ids(few.pairs)
    assert ids(many.accepted)[: len(few.accepted)] == ids(few.accepted)
    assert len(few.accepted) <= goal
    assert few.candidates <= min(cap, len(fates))
    assert (few.exhausted is None) == (len(few.accepted) == goal)


@given(FATES, st.integers(1, 12), st.integers(1, 30))
def test_no_candidate_is_tried_that_a_look_at_each_in_turn_would_not_need(
    fates: list[str], goal: int, cap: int
) -> None:
    within = fates[:cap]
    good = [place for place, fate in enumerate(within, start=1) if fate == GOOD]
    needed = good[goal - 1] if len(good) >= goal else len(within)
    assert collect(Fixed(fates), goal, cap, GATE.start()).candidates == needed
