"""When two texts or two prompts are the same, and what of a training set occurs in the evaluation. Pure.

What it cannot see: a prompt said in other words.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from limbeck.records import Message, PromptRow

GRAM_WORDS = 13  # the overlap that GPT-3's authors count as contamination (Brown et al. 2020, appendix C)
SAME_PROBLEM = "overlap with evaluation: same problem"
SAME_PROMPT = "overlap with evaluation: same prompt"
SAME_WORDS = f"overlap with evaluation: {GRAM_WORDS} words in a row"
_WORD = re.compile(r"\w+")


class PromptIdentity(NamedTuple):
    """What makes a prompt the same prompt: the content of its problem, else its normalised text."""

    kind: str
    value: str


def normalised(text: str) -> str:
    """Fold case, compatibility forms and white space. Punctuation stays: `3 + 4` is not `3 - 4`."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def same_answer(first: str, second: str) -> bool:
    """Whether two answers differ in white space at most. Case counts, and so do signs: `2² = 4` is not `22 = 4`."""
    return first.split() == second.split()


def prompt_text(prompt: Sequence[Message]) -> str:
    """A conversation as one normalised text; roles count, so a user's turn is not an assistant's."""
    return "\n".join(f"{message.role}: {normalised(message.content)}" for message in prompt)


def prompt_identity(row: PromptRow) -> PromptIdentity:
    """Return the identity by which prompts are told apart across kinds, splits and files."""
    if row.problem is not None:
        return PromptIdentity("problem", row.problem.content)
    return PromptIdentity("text", prompt_text(row.prompt))


def word_grams(text: str, n: int) -> frozenset[tuple[str, ...]]:
    """All runs of `n` words of `text`, case and punctuation left out; empty where it has fewer words."""
    words = _WORD.findall(normalised(text))
    return frozenset(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


def jaccard(first: frozenset[tuple[str, ...]], second: frozenset[tuple[str, ...]]) -> float:
    """The share of what two sets have together that both have; 1 where both are empty."""
    return len(first & second) / len(first | second) if first or second else 1.0


class EvaluationPrompts:
    """The held-out prompts, in the forms by which a training prompt is compared with them.

    `free_text`: those without a problem, for whoever seeks likenesses beyond words in a row.
    """

    def __init__(self, rows: Iterable[PromptRow]) -> None:
        self._contents: set[str] = set()
        self._texts: set[str] = set()
        self._grams: set[tuple[str, ...]] = set()
        self.free_text: list[PromptRow] = []
        for row in rows:
            self._texts.add("\n".join(_asked(row)))
            if row.problem is not None:
                self._contents.add(row.problem.content)
            else:  # problems of one family share their wording by design, so it counts for nothing
                self._grams |= _grams(row)
                self.free_text.append(row)

    def overlap(self, row: PromptRow) -> str | None:
        """Say how `row` occurs among them, or None: a task by its content, free text by its whole or 13 words."""
        if row.problem is not None and row.problem.content in self._contents:
            return SAME_PROBLEM
        if "\n".join(_asked(row)) in self._texts:
            return SAME_PROMPT
        if row.problem is None and self._grams and not self._grams.isdisjoint(_grams(row)):
            return SAME_WORDS
        return None


def _asked(row: PromptRow) -> list[str]:
    """What the user said: a system turn more or less does not make it another prompt."""
    return [normalised(turn.content) for turn in row.prompt if turn.role == "user"]


def _grams(row: PromptRow) -> set[tuple[str, ...]]:
    return {gram for turn in _asked(row) for gram in word_grams(turn, GRAM_WORDS)}
