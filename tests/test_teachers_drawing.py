"""What requests show: drawn by seed, of one topic, across topics."""

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from limbeck.records import Pair, PromptRow, WeakPrompt, user_prompt
from limbeck.teachers import NewPromptRow
from limbeck.teachers.drawing import ExamplePool, new_prompt_rows, rolling_rows, uniform_order


def weak_rows(**per_topic: int) -> list[WeakPrompt]:
    return [
        WeakPrompt(id=f"{topic}/{number}", prompt=user_prompt(f"{topic} {number}"), source=topic)
        for topic, count in per_topic.items()
        for number in range(count)
    ]


def draw(count: int, *, fresh: list[PromptRow] | None = None, shown: int = 3, seed: int = 1) -> list[NewPromptRow]:
    rows = new_prompt_rows(
        weak_rows(a=30, b=10, c=2), fresh or [], shown=shown, seed=seed, invents_prompts=fresh is None
    )
    return list(islice(rows, count))


def pool(**per_topic: int) -> list[Pair]:
    return [
        Pair(**row.model_dump(exclude={"failures", "successes"}), chosen="g", rejected="b")
        for row in weak_rows(**per_topic)
    ]


def test_a_request_shows_distinct_weak_prompts_of_one_topic() -> None:
    for row in draw(200):
        assert len({weak.topic for weak in row.weak}) == 1
        assert len({weak.id for weak in row.weak}) == min(3, 2 if row.weak[0].topic == "c" else 3)


def test_topics_come_as_often_as_among_the_weak_prompts() -> None:
    seen = Counter(row.weak[0].topic for row in draw(4200))
    # Expected 3000, 1000, 200; four standard deviations of a binomial are 117, 111 and 56.
    assert abs(seen["a"] - 3000) < 117
    assert abs(seen["b"] - 1000) < 111
    assert abs(seen["c"] - 200) < 56


def test_asking_for_more_leaves_the_earlier_draws_as_they_were() -> None:
    assert draw(50) == draw(90)[:50]
    assert draw(50) != draw(50, seed=2)


def test_fresh_rows_are_handed_out_once_each_of_the_topic_shown_until_they_are_used_up() -> None:
    fresh: list[PromptRow] = list(weak_rows(a=4, b=3, elsewhere=5))
    rows = draw(100, fresh=fresh)
    assert len(rows) == 7
    assert len({row.fresh.id for row in rows if row.fresh}) == 7
    assert all(row.fresh and row.fresh.topic == row.weak[0].topic for row in rows)


def test_an_inventing_teacher_is_handed_no_fresh_row() -> None:
    assert {row.fresh for row in draw(5)} == {None}


def test_examples_come_from_as_many_topics_as_there_are() -> None:
    examples = ExamplePool(pool(a=50, b=2, c=1), 1).draw(weak_rows(x=1)[0], 4)
    assert len({pair.id for pair in examples}) == 4
    assert {pair.topic for pair in examples} == {"a", "b", "c"}


@given(st.integers(0, 6), st.integers(0, 5))
def test_an_example_is_never_of_the_prompt_itself(seed: int, count: int) -> None:
    for row in weak_rows(a=2, b=1):
        examples = ExamplePool(pool(a=2, b=1), seed).draw(row, count)
        assert row.id not in {pair.id for pair in examples}
        assert len(examples) == min(count, 2)


def test_an_order_does_not_depend_on_the_order_of_the_file() -> None:
    rows = weak_rows(a=40)
    assert uniform_order(rows, 1, "x") == uniform_order(rows[::-1], 1, "x")
    assert uniform_order(rows, 1, "x") != uniform_order(rows, 1, "y")
    assert [row for row in uniform_order(rows, 1, "x") if row.id != "a/3"] == uniform_order(
        [row for row in rows if row.id != "a/3"], 1, "x"
    )


def worded(*prompts: str) -> list[Pair]:
    return [Pair(id=text, prompt=user_prompt(text), source="s", chosen="g", rejected="b") for text in prompts]


def test_examples_of_one_topic_are_as_unlike_each_other_as_they_come() -> None:
    alike = [f"how many legs have {n} hens and two cows" for n in range(4)]
    other = ["spell lady backward for me please", "which weekday comes after friday"]
    for seed in range(20):
        shown = {pair.id for pair in ExamplePool(worded(*alike, *other), seed).draw(weak_rows(x=1)[0], 3)}
        assert set(other) <= shown
        assert len(shown & set(alike)) == 1


def test_examples_do_not_depend_on_what_was_drawn_before() -> None:
    rows = weak_rows(x=5)
    used = ExamplePool(pool(a=30, b=9), 1)
    for row in rows:
        used.draw(row, 4)
    assert used.draw(rows[0], 4) == ExamplePool(pool(a=30, b=9), 1).draw(rows[0], 4)


def test_a_rolling_item_is_written_with_the_pairs_just_before_its_place() -> None:
    stream = worded(*(f"p{n}" for n in range(8)))
    rows = list(rolling_rows(stream, [], shown=5, seed=1, invents_prompts=True))
    assert [[pair.id for pair in row.context] for row in rows] == [
        [f"p{n}" for n in range(start, start + 5)] for start in range(4)
    ]
    assert list(rolling_rows(stream[:4], [], shown=5, seed=1, invents_prompts=True)) == []


def test_a_rolling_item_is_handed_a_fresh_row_of_a_topic_around_it_where_one_is_left() -> None:
    stream = pool(a=3) + pool(b=3)
    fresh: list[PromptRow] = list(weak_rows(a=1, b=1, c=1))
    rows = list(rolling_rows(stream, fresh, shown=2, seed=1, invents_prompts=False))
    assert [row.fresh.topic for row in rows if row.fresh] == ["a", "b", "c"]
    assert rows == list(rolling_rows(stream, fresh[::-1], shown=2, seed=1, invents_prompts=False))
