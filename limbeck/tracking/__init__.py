"""Live trackers: the points of a training curve, shown elsewhere while they are made (recipe section `track`).

A tracker lives in a process of its own, which reads `metrics.jsonl` as it grows. So training neither waits for a
network, nor ends with a library's error, nor shares its output with one; and what a killed run had written is handed
over all the same. Start reading at: `courier.py`, then `following.py`.
"""

import importlib.util

from limbeck.errors import RecipeError
from limbeck.recipe.track import Track
from limbeck.tracking.courier import Tracking

__all__ = ["Tracking", "check_installed"]


def check_installed(track: Track) -> None:
    """See that the library of every tracker that is asked for is there.

    Raises:
        RecipeError: naming the first that is not, and what to install.
    """
    for name in track.to:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # a mere folder of that name, as W&B leaves one, is no library
            raise RecipeError(f"track.to needs the library {name!r}: pip install 'limbeck[{name}]'")
