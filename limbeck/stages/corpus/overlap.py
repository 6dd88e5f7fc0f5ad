"""Which training prompts occur among the evaluation prompts: tasks by content, free text by its whole or 13 words.

Pure. What it cannot see: a prompt said in other words.
"""

from collections.abc import Iterable

from limbeck.records import PromptRow
from limbeck.teachers.likeness import normalised, word_grams

GRAM_WORDS = 13  # the overlap that GPT-3's authors count as contamination (Brown et al. 2020, appendix C)
SAME_PROBLEM = "overlap with evaluation: same problem"
SAME_PROMPT = "overlap with evaluation: same prompt"
SAME_WORDS = f"overlap with evaluation: {GRAM_WORDS} words in a row"


class EvaluationPrompts:
    """The held-out prompts, in the forms by which a training prompt is compared with them."""

    def __init__(self, rows: Iterable[PromptRow]) -> None:
        self._contents: set[str] = set()
        self._texts: set[str] = set()
        self._grams: set[tuple[str, ...]] = set()
        for row in rows:
            self._texts.add("\n".join(_asked(row)))
            if row.problem is not None:
                self._contents.add(row.problem.content)
            else:  # problems of one family share their wording by design, so it counts for nothing
                self._grams |= _grams(row)

    def overlap(self, row: PromptRow) -> str | None:
        """Say how `row` occurs among them, or None. Only what the user said is compared."""
        if row.problem is not None and row.problem.content in self._contents:
            return SAME_PROBLEM
        if "\n".join(_asked(row)) in self._texts:
            return SAME_PROMPT
        if row.problem is None and self._grams and not self._grams.isdisjoint(_grams(row)):
            return SAME_WORDS
        return None


def _asked(row: PromptRow) -> list[str]:
    return [normalised(turn.content) for turn in row.prompt if turn.role == "user"]


def _grams(row: PromptRow) -> set[tuple[str, ...]]:
    return {gram for turn in _asked(row) for gram in word_grams(turn, GRAM_WORDS)}
