"""A look at the first rows of sources before a run: may an exact verifier judge any of their prompts?"""

from collections.abc import Sequence
from pathlib import Path

from limbeck.errors import InputError
from limbeck.recipe.corpus import Dataset
from limbeck.stages.corpus.formats import read_example
from limbeck.stages.corpus.sources import DETECTION_ROWS, Sources
from limbeck.stages.corpus.turns import UnusableRowError


def may_hold_problems(datasets: Sequence[Dataset]) -> bool:
    """Whether any of them holds prompts whose answer is a number, for all that their first rows tell.

    What is on the hub, or cannot be read, is not ruled out: the corpus stage reads it and says what is wrong.
    """
    return any(map(_may_hold_problems, datasets))


def _may_hold_problems(dataset: Dataset) -> bool:
    if not Path(dataset.path).expanduser().exists():
        return True
    try:
        rows = Sources(0).rows(dataset.model_copy(update={"limit": None}))
        for _, row in zip(range(DETECTION_ROWS), rows, strict=False):
            try:
                if read_example(row.format, row.values).problem is not None:
                    return True
            except UnusableRowError:
                continue
    except InputError:
        return True
    return False
