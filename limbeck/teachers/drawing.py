"""What a request shows, drawn by seed: prompts, weak prompts of one topic, examples across topics. Pure.

Every draw has a generator of its own, so that asking for more leaves the earlier draws (and the replies stored for
them) as they were.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import TypeVar

from limbeck.likeness import jaccard, prompt_identity, prompt_text, word_grams
from limbeck.records import Pair, PromptRow, WeakPrompt
from limbeck.seeds import derive, rng
from limbeck.teachers.protocol import NewPromptRow

AnyRow = TypeVar("AnyRow", bound=PromptRow)
CANDIDATES_OF_A_TOPIC = 8


def uniform_order(rows: Iterable[AnyRow], seed: int, *purpose: str) -> list[AnyRow]:
    """Shuffle by a seeded hash of each row's id: independent of file order; a row added or gone moves no other."""
    return sorted(rows, key=lambda row: (derive(seed, *purpose, row.id), row.id))


def new_prompt_rows(
    weak: Sequence[WeakPrompt], fresh: Sequence[PromptRow], *, shown: int, seed: int, invents_prompts: bool
) -> Iterator[NewPromptRow]:
    """Draw what new prompts are asked from, one after the other: up to `shown` weak prompts of one topic.

    Topics come as often as among the weak prompts. A teacher that does not invent is handed a fresh row of that topic,
    none twice; topics whose fresh rows are used up are drawn no more, and so it may end. One that invents goes on for
    ever.
    """
    by_topic = _by_topic(uniform_order(weak, seed, "new_prompt"))
    unused = _by_topic(uniform_order(fresh, seed, "fresh"))
    for index in count():
        topics = [topic for topic in sorted(by_topic) if invents_prompts or unused.get(topic)]
        if not topics:
            return
        draw = rng(seed, "new_prompt", index)
        topic = draw.choices(topics, [len(by_topic[name]) for name in topics])[0]
        sample = draw.sample(by_topic[topic], min(shown, len(by_topic[topic])))
        handed = None if invents_prompts else unused[topic].pop()
        yield NewPromptRow(id=f"new_prompt/{index}", weak=tuple(sample), fresh=handed)


def rolling_rows(
    stream: Sequence[Pair], fresh: Sequence[PromptRow], *, shown: int, seed: int, invents_prompts: bool
) -> Iterator[NewPromptRow]:
    """What rolling prompts are asked from, in the order of the stream: item j is written with pairs j .. j+shown-1.

    A teacher that does not invent is handed a fresh row, none twice: of a topic of those pairs where there is one left,
    else of any; when all are used up, it ends.
    """
    unused = _by_topic(uniform_order(fresh, seed, "fresh", "rolling"))
    for place in range(len(stream) - shown + 1):
        context = tuple(stream[place : place + shown])
        handed = None
        if not invents_prompts:
            left = [topic for topic in sorted(unused) if unused[topic]]
            topics = [topic for topic in left if topic in {pair.topic for pair in context}] or left
            if not topics:
                return
            handed = unused[rng(seed, "rolling", context[-1].id).choice(topics)].pop()
        yield NewPromptRow(id=f"rolling_prompt/{place}", context=context, fresh=handed)


class ExamplePool:
    """Pairs to show as examples, by topic."""

    def __init__(self, pairs: Sequence[Pair], seed: int) -> None:
        self._by_topic = _by_topic(pairs)
        self._seed = seed
        self._grams: dict[str, frozenset[tuple[str, ...]]] = {}

    def draw(self, row: PromptRow, number: int) -> list[Pair]:
        """Draw up to `number` diverse pairs for `row`, never of its own prompt.

        Among a few candidates of several topics, drawn at random, farthest first (Gonzalez 1985): the next is of a
        topic shown least so far, and of that the one whose prompt is least like those taken, by runs of two words.
        """
        draw = rng(self._seed, "examples", row.id)
        topics = sorted(self._by_topic)
        draw.shuffle(topics)
        own = prompt_identity(row)
        candidates: list[Pair] = []
        for topic in topics[: number + 1]:  # one topic and one pair more than needed, in case one is the row's own
            pairs = self._by_topic[topic]
            sample = draw.sample(pairs, min(max(number + 1, CANDIDATES_OF_A_TOPIC), len(pairs)))
            candidates += [pair for pair in sample if prompt_identity(pair) != own]
        return self._farthest_first(candidates, number)

    def _farthest_first(self, candidates: Sequence[Pair], number: int) -> list[Pair]:
        shown: Counter[str] = Counter()
        likeness = [0.0] * len(candidates)  # of each candidate to the likest of those taken
        left = list(range(len(candidates)))
        taken: list[Pair] = []
        while left and len(taken) < number:
            place = min(left, key=lambda at: (shown[candidates[at].topic], likeness[at], at))
            left.remove(place)
            taken.append(candidates[place])
            shown[candidates[place].topic] += 1
            for other in left:
                alike = jaccard(self._words(candidates[place]), self._words(candidates[other]))
                likeness[other] = max(likeness[other], alike)
        return taken

    def _words(self, pair: Pair) -> frozenset[tuple[str, ...]]:
        if pair.id not in self._grams:
            self._grams[pair.id] = word_grams(prompt_text(pair.prompt), 2)
        return self._grams[pair.id]


def _by_topic(rows: Iterable[AnyRow]) -> dict[str, list[AnyRow]]:
    topics: defaultdict[str, list[AnyRow]] = defaultdict(list)
    for row in rows:
        topics[row.topic].append(row)
    return dict(topics)
