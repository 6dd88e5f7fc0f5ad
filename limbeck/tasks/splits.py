"""Draw the splits of the task families: who sees which problem, decided by the seed alone.

Evaluation splits are drawn first and training splits refuse their contents, so that asking for more training items
never moves an evaluation item. It knows no questions and no solutions, only families and contents.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from limbeck import seeds
from limbeck.errors import RecipeError
from limbeck.records import Problem, PromptRow, user_prompt
from limbeck.tasks import gym
from limbeck.tasks.families import FAMILIES, TRAINED, TRANSFER, Family, family
from limbeck.tasks.problems import build

Split = Literal["test", "transfer", "validation", "sft", "pool", "fresh"]

# In the order in which they are drawn: each refuses the contents of those before it.
SPLITS: tuple[Split, ...] = ("test", "transfer", "validation", "sft", "pool", "fresh")
# Those that every further round of a run draws anew, after all splits of the rounds before it.
ANEW: tuple[Split, ...] = ("pool", "fresh")

# A generator draws item i from `Random(seed + i)`. Every (seed, family, split) owns a block of this many numbers, of
# which it can use the first `gym.MAX_DRAWS`.
SEED_STRIDE = 1_000_000
# Blocks set aside for one user seed: room for a hundred families of ten splits, so that new families move nothing.
_BLOCKS_PER_SEED = 1_000
_BLOCKS_PER_FAMILY = 10

# A family of which so many draws in a row bring nothing new counts as exhausted. Where one draw in fifty still
# brings something, a false alarm has a chance of 0.98^1000, about 2 in 10^9.
MAX_MISSES = 1_000


def base_seed(seed: int, family_name: str, split: Split) -> int:
    """Return the generator's seed of a family in a split: any two, of any user seeds, lie 10^6 or more apart."""
    # `Random(-5)` is `Random(5)`: negative user seeds take the odd numbers, the others the even ones.
    user = 2 * seed if seed >= 0 else -2 * seed - 1
    position = [each.name for each in FAMILIES].index(family_name)
    block = user * _BLOCKS_PER_SEED + position * _BLOCKS_PER_FAMILY + SPLITS.index(split)
    return block * SEED_STRIDE


def draw_splits(
    counts: Mapping[Split, int],
    families: Sequence[str] = TRAINED,
    seed: int = 0,
) -> dict[Split, tuple[PromptRow, ...]]:
    """Return the rows of every split named in `counts` (rows in all, divided evenly over the families).

    `families` are the trained ones; the transfer split always holds the families and templates never trained on. No
    content occurs twice, within a split or across them. RecipeError where a family has no more contents to give.
    """
    return draw_rounds(counts, families, seed, 1)[0]


def draw_rounds(
    counts: Mapping[Split, int], families: Sequence[str], seed: int, rounds: int
) -> list[dict[Split, tuple[PromptRow, ...]]]:
    """Return `draw_splits`, then for every further round the splits of `ANEW`; no content occurs twice in all of them.

    More rounds move nothing of fewer.
    """
    _check(counts, families)
    drawing = _Drawing(seed, set(), {})
    drawn: list[dict[Split, tuple[PromptRow, ...]]] = []
    for number in range(1, rounds + 1):
        found: dict[Split, tuple[PromptRow, ...]] = {}
        for split in SPLITS if number == 1 else ANEW:
            if split in counts:
                names = TRANSFER if split == "transfer" else tuple(families)
                shares = divide(counts[split], len(names))
                found[split] = _draw_split(split, dict(zip(names, shares, strict=True)), drawing, number)
        drawn.append({split: found[split] for split in counts if split in found})
    return drawn


def divide(total: int, parts: int) -> list[int]:
    """Divide `total` into whole shares, as evenly as possible: differences of running sums."""
    return [total * (part + 1) // parts - total * part // parts for part in range(parts)]


def _check(counts: Mapping[Split, int], families: Sequence[str]) -> None:
    """Refuse, with a sentence, what cannot be drawn."""
    for split, count in counts.items():
        if split not in SPLITS:
            raise RecipeError(f"There is no task split {split!r}; the splits are {', '.join(SPLITS)}.")
        if count < 0:
            raise RecipeError(f"The task split {split!r} asks for {count} rows; it takes zero or more.")
    if not families or len(set(families)) < len(families):
        raise RecipeError("Task families must be named once each, and at least one of them.")
    for name in families:
        if not family(name).trained:
            raise RecipeError(f"The task family {name!r} is kept for the transfer split and is never trained on.")


class _Drawing(NamedTuple):
    """What has been drawn: contents seen so far, and by split and family the problems still to come."""

    seed: int
    seen: set[str]
    streams: dict[tuple[Split, str], Iterator[Problem]]

    def stream(self, split: Split, name: str) -> Iterator[Problem]:
        """A further round goes on in the numbers of its split where the one before it stopped."""
        if (split, name) not in self.streams:
            self.streams[split, name] = _unseen(family(name), split, self.seed, self.seen)
        return self.streams[split, name]


def _draw_split(split: Split, shares: Mapping[str, int], drawing: _Drawing, number: int) -> tuple[PromptRow, ...]:
    """Draw one split's rows for a round and shuffle them; their contents join `drawing.seen`."""
    rows = []
    for name, share in shares.items():
        problems, first = drawing.stream(split, name), share * (number - 1)
        for place in range(share):
            problem = next(problems, None)
            if problem is None:
                of_round = f" of round {number}" if number > 1 else ""
                raise RecipeError(
                    f"The task family {name!r} has no new problem left for the split {split!r}{of_round}: "
                    f"{place} of {share} found. Ask for fewer rows{' or rounds' if number > 1 else ''}."
                )
            rows.append(_row(problem, f"{split}/{name}/{first + place}"))
    purpose = ("tasks", "shuffle", split, *((number,) if number > 1 else ()))
    seeds.rng(drawing.seed, *purpose).shuffle(rows)
    return tuple(rows)


def _unseen(family: Family, split: Split, seed: int, seen: set[str]) -> Iterator[Problem]:
    """Yield problems whose content is not in `seen`, adding it; end where the family seems to have no more."""
    misses = 0
    for item in gym.items(family.dataset, family.settings, base_seed(seed, family.name, split)):
        problem = build(family, item)
        if problem is None or problem.content in seen:
            misses += 1
            if misses == MAX_MISSES:
                return
            continue
        misses = 0
        seen.add(problem.content)
        yield problem


def _row(problem: Problem, row_id: str) -> PromptRow:
    return PromptRow(
        id=row_id,
        prompt=user_prompt(problem.question),
        source="tasks",
        problem=problem,
        reference_response=problem.solution,
    )
