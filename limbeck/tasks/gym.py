"""The one door to reasoning-gym: draw items, score answers, look up legs. Nothing else in the package imports it.

It is imported on first use (it takes about a second) and its own global effects are undone: importing it draws from
the global random state. It knows generators by name and settings, not what a family makes of them.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

# Draws that one generator offers. gsm_symbolic chooses the templates of all of them at once when it is built.
MAX_DRAWS = 50_000

# Settings that repeat themselves in every item, and values that are no JSON (`variables` can hold fractions).
_DROPPED = ("difficulty", "variables")


class Item(NamedTuple):
    """What a generator drew: question, key, and its metadata as plain JSON values."""

    question: str
    answer: str
    facts: dict[str, Any]


@cache
def _library() -> ModuleType:
    state = random.getstate()
    try:
        return import_module("reasoning_gym")
    finally:
        random.setstate(state)


def items(dataset: str, settings: Mapping[str, Any], seed: int) -> Iterator[Item]:
    """Yield items 0, 1, 2, ... of a generator; item i is drawn from `Random(seed + i)` and nothing else."""
    generator = _library().create_dataset(dataset, seed=seed, size=MAX_DRAWS, **settings)
    # gsm_symbolic's items do not name their template; the generator's list of them does.
    templates = getattr(generator, "task_indices", None)
    for index in range(MAX_DRAWS):
        entry = generator[index]
        facts = {key: value for key, value in entry["metadata"].items() if key not in _DROPPED}
        if templates is not None:
            facts["template"] = templates[index]
        yield Item(entry["question"], entry["answer"], json.loads(json.dumps(facts)))


@cache
def scorer(dataset: str) -> Callable[[str, dict[str, Any]], float]:
    """Return the generator's own `score_answer(answer, entry)`."""
    score: Callable[[str, dict[str, Any]], float] = _library().get_score_answer_fn(dataset)
    return score


@cache
def legs() -> Mapping[str, int]:
    """Return how many legs each animal of leg_counting has."""
    _library()
    return dict(import_module("reasoning_gym.arithmetic.leg_counting").ANIMALS)
