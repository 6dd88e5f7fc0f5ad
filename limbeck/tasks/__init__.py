"""Verifiable reasoning tasks with worked solutions: draw them, score replies to them, slip in them."""

from limbeck.tasks.answers import extract_answer
from limbeck.tasks.arithmetic import check_arithmetic
from limbeck.tasks.families import FAMILIES, TRAINED, TRANSFER, Family, family
from limbeck.tasks.scoring import Score, score
from limbeck.tasks.slips import slip
from limbeck.tasks.splits import SPLITS, Split, draw_rounds, draw_splits

__all__ = [
    "FAMILIES",
    "SPLITS",
    "TRAINED",
    "TRANSFER",
    "Family",
    "Score",
    "Split",
    "check_arithmetic",
    "draw_rounds",
    "draw_splits",
    "extract_answer",
    "family",
    "score",
    "slip",
]
