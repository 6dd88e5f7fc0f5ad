"""The order in which rows are trained on: that of one kind by itself, and that of human and synthetic rows together.

One place for whoever mixes pairs and whoever writes new ones beside them. Pure: rows in, rows out, whatever the order
of the files they came from.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import floor
from typing import TypeVar

from limbeck.likeness import prompt_identity
from limbeck.recipe import Recipe
from limbeck.records import Pair, PromptRow
from limbeck.seeds import derive

Row = TypeVar("Row", bound=PromptRow)
_HALF = Fraction(1, 2)


def stream_seed(recipe: Recipe) -> int:
    """The seed that orders pairs: in every round the run's own, so that what one held out no other trains on."""
    return recipe.seed if recipe.rounds.first_seed is None else recipe.rounds.first_seed


def stream_order(rows: Sequence[Row], seed: int) -> list[Row]:
    """Shuffle by a seeded hash of each row's prompt, whatever the order of the file.

    Kinds that share prompts thus come in the same order: they hold out the same prompts, which costs the fewest pairs,
    and arms that compare kinds train on the same prompts.
    """
    return sorted(rows, key=lambda row: (derive(seed, "mix", *prompt_identity(row)), row.id))


def along_stream(rolling: Sequence[Pair], stream: Sequence[PromptRow], seed: int) -> list[Pair]:
    """Rolling pairs in the order of the rows of `stream` that they follow; at the end those whose row is not there."""
    place = {row.id: number for number, row in enumerate(stream_order(stream, seed))}
    return sorted(stream_order(rolling, seed), key=lambda pair: place.get(pair.placed_after or "", len(place)))


def spread(rows: Sequence[Row], seed: int) -> list[Row]:
    """Shuffle rows of several kinds by a seeded hash of each row's id: kinds that share prompts do not stand together.

    Arms that share rows have them in the same order, so that arms which differ in nothing but how they mix compare.
    """
    return sorted(rows, key=lambda row: (derive(seed, "mix", "synthetic", row.id), row.id))


def appended(human: Sequence[Row], synthetic: Sequence[Row]) -> list[Row]:
    """All human rows, then the synthetic ones."""
    return [*human, *synthetic]


def in_ratio(human: Sequence[Row], synthetic: Sequence[Row], share: float) -> list[Row]:
    """Of the first n rows `share` are synthetic, rounded half up, for every n; once either runs out the other follows.

    So any rows in succession, until one side runs out, hold their share: exactly where that is a whole number of rows,
    else within a row of it, and what one mini-batch is over or under is carried to the next.
    """
    exact = Fraction(str(share))  # 0.35 as it is written: a float would be a little more or less
    mixed: list[Row] = []
    used = 0  # synthetic rows; the others are human
    while True:
        wants_synthetic = floor((len(mixed) + 1) * exact + _HALF) > used
        source, place = (synthetic, used) if wants_synthetic else (human, len(mixed) - used)
        if place == len(source):
            return [*mixed, *human[len(mixed) - used :], *synthetic[used:]]
        mixed.append(source[place])
        used += wants_synthetic


def interleaved(human: Sequence[Row], synthetic: Sequence[Row], places: Mapping[str, str]) -> list[Row]:
    """A synthetic row after every human one: h s h s ...; what is left over of either follows alone.

    `places`: for a synthetic row's id, the id of the human row that it follows (the last of those it was written from);
    it stands right there, several of one place one after the other, and no row without a place is put beside them.

    Raises:
        ValueError: where a row is to follow one that is not among `human`.
    """
    followers: dict[str, list[Row]] = {}
    free: deque[Row] = deque()
    for row in synthetic:
        if row.id in places:
            followers.setdefault(places[row.id], []).append(row)
        else:
            free.append(row)
    mixed: list[Row] = []
    for row in human:
        mixed.append(row)
        own = followers.pop(row.id, [])
        mixed += own
        if free and not own:
            mixed.append(free.popleft())
    if followers:
        raise ValueError(f"no human row {next(iter(followers))!r} for a synthetic one to follow")
    return [*mixed, *free]
