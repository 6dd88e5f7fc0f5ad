"""When two texts or two prompts are the same. Pure."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from limbeck.records import Message, PromptRow

_WORD = re.compile(r"\w+")


class PromptIdentity(NamedTuple):
    """What makes a prompt the same prompt: the content of its problem, else its normalised text."""

    kind: str
    value: str


def normalised(text: str) -> str:
    """Fold case, compatibility forms and white space. Punctuation stays: `3 + 4` is not `3 - 4`."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


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
