"""Which fields of a recipe decide results: the part that freshness and digests go by."""

from collections.abc import Set
from pathlib import Path
from typing import Any

from limbeck.recipe import Recipe
from limbeck.store import digest_path

# How fast a server is asked, and with which key.
PACE = {"timeout_seconds", "max_retries", "concurrency", "requests_per_minute", "tokens_per_minute",
        "api_key_env", "api_key_file"}  # fmt: skip
# What memory and interruptions ask of a training: with less at once, one that ran out of memory goes on.
_HOW_TRAINED = {"checkpoint_every_minutes", "gradient_checkpointing", "micro_batch_tokens"}
_CHANGES_NOTHING: Any = {
    "sft": _HOW_TRAINED,
    "dpo": _HOW_TRAINED,
    "teach": {"budget": True, "prices": True, "endpoint": PACE, "contrast_endpoint": PACE},
    "judges": {
        "nemotron": {"endpoint": PACE, "budget": True},
        "pairwise": {"endpoint": PACE, "budget": True},
        "local": {"micro_batch_tokens"},
    },
    "reward": _HOW_TRAINED,
    "servers": True,
    "track": True,
    "published": True,
}


def spending_limits(recipe: Recipe) -> dict[str, Any]:
    """How far teaching goes, by field: what changes nothing where it reached its goal, and all where these ended it.

    A price list that cannot be read is left out: it has gone, or is named from another folder, and is no other list.
    """
    limits = {"teach.budget": recipe.teach.budget.model_dump(mode="json"), "mix.take_fewer": recipe.mix.take_fewer}
    return limits | _price_list(recipe)


def _price_list(recipe: Recipe) -> dict[str, str | None]:
    """What the user's own list says, wherever it lies: None where none is named."""
    if not recipe.teach.prices:
        return {"teach.prices": None}
    path = Path(recipe.teach.prices).expanduser()
    try:
        return {"teach.prices": digest_path(path)} if path.is_file() else {}
    except OSError:
        return {}


# What runs of several seeds may differ in. A further round's recipe holds the seed of its run.
_SEEDED: Any = {"name": True, "seed": True, "rounds": {"first_seed"}, "published": True}


def but_for_seed(recipe: Recipe) -> dict[str, Any]:
    """The recipe without its name, its seed, and what somebody published: runs that agree in it are seeds of one."""
    return recipe.model_dump(mode="json", exclude=_SEEDED)


def deciding_part(recipe: Recipe, sections: Set[str] | None = None) -> dict[str, Any]:
    """The recipe, or some of its sections, without what changes nothing in what is trained: how often a checkpoint is
    written, how much is computed at once or twice to save memory, how fast and for how much a server is asked, and with
    what somebody published the result is compared.
    """
    include = None if sections is None else set(sections)
    # Alarms that are only said change nothing either: other thresholds are no reason to train again.
    unheard = {"alarms": True} if recipe.alarms.on_alarm == "say" else {}
    return recipe.model_dump(mode="json", include=include, exclude=_CHANGES_NOTHING | unheard)
