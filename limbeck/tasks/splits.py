"""Draw the splits of the task families: who sees which problem, decided by the seed alone.

Evaluation splits are drawn first and training splits refuse their contents, so that asking for more training items
never moves an evaluation item. It knows no questions and no solutions, only families and contents.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from limbeck import seeds
from limbeck.errors import RecipeError
from limbeck.records import Problem, PromptRow, user_prompt
from limbeck.tasks import gym
from limbeck.tasks.families import FAMILIES, TRAINED, TRANSFER, Family, family
from limbeck.tasks.problems import build

Split = Literal["test", "transfer", "validation", "sft", "pool", "fresh"]

# In the order in which they are drawn: each refuses the contents of those before it.
SPLITS: tuple[Split, ...] = ("test", "transfer", "validation", "sft", "pool", "fresh")

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
    _check(counts, families)
    seen: set[str] = set()
    drawn: dict[Split, tuple[PromptRow, ...]] = {}
    for split in SPLITS:
        if split in counts:
            names = TRANSFER if split == "transfer" else tuple(families)
            shares = divide(counts[split], len(names))
            drawn[split] = _draw_split(split, dict(zip(names, shares, strict=True)), seed, seen)
    return {split: drawn[split] for split in counts}


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


def _draw_split(split: Split, shares: Mapping[str, int], seed: int, seen: set[str]) -> tuple[PromptRow, ...]:
    """Draw one split's rows and shuffle them; their contents join `seen`."""
    rows = []
    for name, share in shares.items():
        problems = _unseen(family(name), split, seed, seen)
        for number in range(share):
            problem = next(problems, None)
            if problem is None:
                raise RecipeError(
                    f"The task family {name!r} has no new problem left for the split {split!r}: "
                    f"{number} of {share} found. Ask for fewer rows."
                )
            rows.append(_row(problem, f"{split}/{name}/{number}"))
    seeds.rng(seed, "tasks", "shuffle", split).shuffle(rows)
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
