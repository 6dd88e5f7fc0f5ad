"""Which pairs are worth training on: rules that the teacher's stage stops by and the screening stage drops by.

Reading order: `screener` (what is made once), `accepted` (pairs as they come in), `rules` (one pair alone), then a
file a subject: `answers`, `refusals`, `echoes`, `language`, `verifier`, `near_duplicates`, `semantic`; `words` is below
them all. Knows nothing of files, requests or training.
"""

from limbeck.screening.accepted import HeldOut, Judged, Screening
from limbeck.screening.refusals import refuses
from limbeck.screening.rules import reason_to_drop
from limbeck.screening.screener import Screener
from limbeck.screening.semantic import Embedder
from limbeck.screening.verifier import disagreement, solves

__all__ = [
    "Embedder",
    "HeldOut",
    "Judged",
    "Screener",
    "Screening",
    "disagreement",
    "reason_to_drop",
    "refuses",
    "solves",
]
