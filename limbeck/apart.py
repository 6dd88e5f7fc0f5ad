"""Pairs that only a judge sees, set aside by how their conversation opens: which, and two judges' parts. Pure.

One place for whoever sets pairs aside, before mining (corpus) or after a teacher has written (screen), and for whoever
must not show them to that teacher.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple, TypeVar

from limbeck.likeness import PromptIdentity, opening
from limbeck.recipe import Recipe
from limbeck.records import Pair, PromptRow
from limbeck.seeds import derive

Key = TypeVar("Key", bound=str)


class Parted(NamedTuple):
    """Rows whose opening is among those set aside, and the others, each in the order they came."""

    aside: list[Pair]
    rest: list[Pair]


def prompts_to_set_aside(rows: Iterable[PromptRow], most: int, seed: int) -> set[PromptIdentity]:
    """Openings (limbeck.likeness) in an order that the seed decides, as many as have at most `most` rows together.

    One with more rows than are left is passed over.
    """
    count: defaultdict[PromptIdentity, int] = defaultdict(int)
    for row in rows:
        count[opening(row)] += 1
    chosen: set[PromptIdentity] = set()
    for prompt in sorted(count, key=lambda prompt: _place(prompt, seed)):
        if count[prompt] <= most:
            chosen.add(prompt)
            most -= count[prompt]
    return chosen


def of_the_judge(recipe: Recipe, kept: Mapping[str, Sequence[Pair]]) -> set[PromptIdentity]:
    """Openings whose pairs, of every kind that a teacher makes, only the judge sees: of a kind that was `kept` as many
    as `Recipe.judging_pairs` says, or half of fewer.
    """
    counts: dict[str, int] = {kind: recipe.judging_pairs(kind) for kind in recipe.pair_kinds()}
    chosen: set[PromptIdentity] = set()
    for kind, pairs in kept.items():
        if (count := counts.get(kind, 0)) > 0:
            chosen |= prompts_to_set_aside(pairs, min(count, len(pairs) // 2), recipe.seed)
    return chosen


def part(rows: Iterable[Pair], prompts: Set[PromptIdentity]) -> Parted:
    """Part rows by their openings."""
    parted = Parted([], [])
    for row in rows:
        (parted.aside if opening(row) in prompts else parted.rest).append(row)
    return parted


def shared_out(pairs: Sequence[Pair], judges: Sequence[Key], seed: int) -> Mapping[Key, list[Pair]]:
    """Deal pairs out to judges, opening by opening in an order that the seed decides: none goes to two of them."""
    by_prompt: defaultdict[PromptIdentity, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_prompt[opening(pair)].append(pair)
    shares: dict[Key, list[Pair]] = {judge: [] for judge in judges}
    for number, prompt in enumerate(sorted(by_prompt, key=lambda prompt: _place(prompt, seed))):
        shares[judges[number % len(judges)]] += by_prompt[prompt]
    return shares


def _place(prompt: PromptIdentity, seed: int) -> int:
    return derive(seed, "judging", *prompt)
