"""The order in which pairs of one kind come: one for whoever mixes them and whoever writes new ones beside them."""

from collections.abc import Sequence

from limbeck.likeness import prompt_identity
from limbeck.records import Pair
from limbeck.seeds import derive


def stream_order(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """Shuffle by a seeded hash of each pair's prompt, whatever the order of the file.

    Kinds that share prompts thus come in the same order: they hold out the same prompts, which costs the fewest pairs,
    and arms that compare kinds train on the same prompts.
    """
    return sorted(pairs, key=lambda pair: (derive(seed, "mix", *prompt_identity(pair)), pair.id))
