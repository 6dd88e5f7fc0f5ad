"""What a request shows, drawn by seed: prompts, weak prompts of one topic, examples across topics. Pure.

Every draw has a generator of its own, so that asking for more leaves the earlier draws (and the replies stored for
them) as they were.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TypeVar

from limbeck.likeness import prompt_identity
from limbeck.records import Pair, PromptRow, WeakPrompt
from limbeck.seeds import derive, rng
from limbeck.teachers.protocol import NewPromptRow

AnyRow = TypeVar("AnyRow", bound=PromptRow)


def uniform_order(rows: Iterable[AnyRow], seed: int, purpose: str) -> list[AnyRow]:
    """Shuffle by a seeded hash of each row's id: independent of file order; a row added or gone moves no other."""
    return sorted(rows, key=lambda row: (derive(seed, purpose, row.id), row.id))


def draw_new_prompt_rows(
    weak: Sequence[WeakPrompt],
    fresh: Sequence[PromptRow],
    *,
    count: int,
    shown: int,
    seed: int,
    invents_prompts: bool,
) -> list[NewPromptRow]:
    """Draw up to `count` requests for a new prompt, each showing up to `shown` weak prompts of one topic.

    Topics come as often as among the weak prompts. A teacher that does not invent is handed a fresh row of that topic,
    none twice; topics whose fresh rows are used up are drawn no more, so there may be fewer requests than `count`.
    """
    by_topic = _by_topic(uniform_order(weak, seed, "new_prompt"))
    unused = _by_topic(uniform_order(fresh, seed, "fresh"))
    rows: list[NewPromptRow] = []
    for index in range(count):
        topics = [topic for topic in sorted(by_topic) if invents_prompts or unused.get(topic)]
        if not topics:
            break
        draw = rng(seed, "new_prompt", index)
        topic = draw.choices(topics, [len(by_topic[name]) for name in topics])[0]
        sample = draw.sample(by_topic[topic], min(shown, len(by_topic[topic])))
        handed = None if invents_prompts else unused[topic].pop()
        rows.append(NewPromptRow(id=f"new_prompt/{index}", weak=tuple(sample), fresh=handed))
    return rows


class ExamplePool:
    """Pairs to show as examples, by topic."""

    def __init__(self, pairs: Sequence[Pair], seed: int) -> None:
        self._by_topic = _by_topic(pairs)
        self._seed = seed

    def draw(self, row: PromptRow, count: int) -> list[Pair]:
        """Draw up to `count` pairs for `row`: one of each topic in turn, never of its own prompt."""
        draw = rng(self._seed, "examples", row.id)
        topics = sorted(self._by_topic)
        draw.shuffle(topics)
        own = prompt_identity(row)
        columns = []
        for topic in topics[: count + 1]:  # one topic and one pair more than needed, in case one is the row's own
            pairs = self._by_topic[topic]
            sample = draw.sample(pairs, min(count + 1, len(pairs)))
            columns.append([pair for pair in sample if prompt_identity(pair) != own])
        in_turn = [pair for rank in zip_longest(*columns) for pair in rank if pair is not None]
        return in_turn[:count]


def _by_topic(rows: Iterable[AnyRow]) -> dict[str, list[AnyRow]]:
    topics: defaultdict[str, list[AnyRow]] = defaultdict(list)
    for row in rows:
        topics[row.topic].append(row)
    return dict(topics)
