"""Which pairs are worth training on: rules that the teacher's stage stops by and the screening stage drops by.

Reading order: `rules`. Knows nothing of files, requests or training.
"""

from limbeck.screening.rules import disagreement, reason_to_drop, refuses, screen_pairs, solves

__all__ = ["disagreement", "reason_to_drop", "refuses", "screen_pairs", "solves"]
