"""Seeds: every random choice of a run is derived from the recipe's one seed and the names of what it is for.

Knows nothing of torch. Two purposes never share a stream, and adding a purpose does not move another.
"""

import hashlib
import random


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for `purpose` under `seed`: the first 8 bytes of SHA-256 over both, top bit cleared."""
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng(seed: int, *purpose: str | int) -> random.Random:
    """Return an independent generator for `purpose` under `seed`."""
    return random.Random(derive(seed, *purpose))
