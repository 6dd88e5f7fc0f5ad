"""When two texts or two prompts are the same, and what of a training set occurs in the evaluation. Pure.

What it cannot see: a prompt said in other words.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from limbeck.records import Message, PromptRow

ECHO_WORDS = 5  # a reply to a shorter prompt may well begin with its words ("Hello!" to "Hello!")
GRAM_WORDS = 13  # the overlap that GPT-3's authors count as contamination (Brown et al. 2020, appendix C)
SAME_PROBLEM = "overlap with evaluation: same problem"
SAME_PROMPT = "overlap with evaluation: same prompt"
SAME_WORDS = f"overlap with evaluation: {GRAM_WORDS} words in a row"
_WORD = re.compile(r"\w+")
# A number with its separators, a word, any sign; and the signs that end, join or enclose without saying anything.
_TOKEN = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d]+|[^\w\s]")
_PUNCTUATION = frozenset(".,;:!?…'\"“”‘’«»()[]{}¿¡。，！？")
_START_TOKENS = 4  # a shorter problem ("2+2?") may occur in any text, so only a text that says no more is the same
_BLOCKS = (
    "async |def |class |if |elif |else\\b|for |while |try\\b|except\\b|finally\\b|with |match |case |function |switch "
)
_CODE_LINE = re.compile(
    rf"^[ \t]*(?:```|(?:{_BLOCKS})[^\n]*[:{{][ \t]*(?:#[^\n]*)?$)", re.MULTILINE
)  # a fence, or what opens a block
_INDENTED_LINE = re.compile(r"^[ \t]+\S", re.MULTILINE)


class PromptIdentity(NamedTuple):
    """What makes a prompt the same prompt: its normalised text; of a generator's problem, whose wording says little,
    its content. A problem that somebody wrote may stand elsewhere as mere text, and is the same prompt there.
    """

    kind: str
    value: str


def normalised(text: str) -> str:
    """Fold case, compatibility forms and white space. Punctuation stays: `3 + 4` is not `3 - 4`."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def same_answer(first: str, second: str) -> bool:
    """Whether two answers differ in white space at most, and not in what code means by it.

    Case counts, and so do signs: `2² = 4` is not `22 = 4`.
    """
    return first.split() == second.split() and _code_lines(first, second) == _code_lines(second, first)


def same_nesting(first: str, second: str) -> bool:
    """Whether the lines of two texts are indented alike; true of texts that hold no code with indented lines."""
    ours, theirs = _code_lines(first, second), _code_lines(second, first)
    return [line.indentation for line in ours] == [line.indentation for line in theirs]


class _Line(NamedTuple):
    indentation: int
    words: tuple[str, ...]


def _code_lines(text: str, other: str) -> list[_Line]:
    """The lines of `text` that are not blank; none where neither text holds code with indented lines."""
    if not any(_INDENTED_LINE.search(either) and _CODE_LINE.search(either) for either in (text, other)):
        return []
    lines = [line.expandtabs() for line in text.splitlines() if line.strip()]
    return [_Line(len(line) - len(line.lstrip()), tuple(line.split())) for line in lines]


def prompt_text(prompt: Sequence[Message]) -> str:
    """A conversation as one normalised text; roles count, so a user's turn is not an assistant's."""
    return "\n".join(f"{message.role}: {normalised(message.content)}" for message in prompt)


def prompt_identity(row: PromptRow) -> PromptIdentity:
    """Return the identity by which prompts are told apart across kinds, splits and files."""
    if row.problem is not None and not is_worded(row):
        return PromptIdentity("problem", row.problem.content)
    return PromptIdentity("text", prompt_text(row.prompt))


def opening(row: PromptRow) -> PromptIdentity:
    """Return what a conversation opens with: its generator's problem, else its first user turn.

    A later place of a dialogue repeats what was said before, so two places of one are the same to whoever learnt one.
    """
    if not is_worded(row):
        return prompt_identity(row)
    return PromptIdentity("opening", next(normalised(turn.content) for turn in row.prompt if turn.role == "user"))


def begins_with_prompt(text: str, prompt: str) -> bool:
    """Whether a reply begins by saying the whole prompt again, of `ECHO_WORDS` words or more."""
    asked = normalised(prompt)
    if len(asked.split()) < ECHO_WORDS:
        return False
    # Folding and joining may shorten a text, but hardly to a quarter; the rest of a long reply need not be folded.
    return normalised(text[: 4 * len(asked) + 200]).startswith(asked)


def word_grams(text: str, n: int) -> frozenset[tuple[str, ...]]:
    """All runs of `n` words of `text`, case and punctuation left out; empty where it has fewer words."""
    words = _WORD.findall(normalised(text))
    return frozenset(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


def jaccard(first: frozenset[tuple[str, ...]], second: frozenset[tuple[str, ...]]) -> float:
    """The share of what two sets have together that both have; 1 where both are empty."""
    return len(first & second) / len(first | second) if first or second else 1.0


class EvaluationPrompts:
    """The held-out prompts, in the forms by which a training prompt is compared with them.

    `free_text` and `problems`: those whose wording is their own and those with a problem, for whoever seeks likenesses
    beyond these; a problem that somebody wrote is in both.
    """

    def __init__(self, rows: Iterable[PromptRow]) -> None:
        self._contents: set[str] = set()
        self._texts: set[str] = set()
        self._grams: set[tuple[str, ...]] = set()
        self._starts: dict[tuple[str, ...], list[tuple[str, ...]]] = {}  # problems' tokens, by the first few of them
        self.free_text: list[PromptRow] = []
        self.problems: list[PromptRow] = []
        for row in rows:
            turns = (*_asked(row), *map(normalised, row.follow_ups))
            self._texts.update("\n".join(turns[:end]) for end in range(len(_asked(row)), len(turns) + 1))
            if row.problem is not None:
                self._contents.add(row.problem.content)
                words = said(row.prompt[-1].content)
                self._starts.setdefault(words[:_START_TOKENS], []).append(words)
                self.problems.append(row)
            if is_worded(row):
                self._grams |= _grams(row)
                self.free_text.append(row)

    def overlap(self, row: PromptRow) -> str | None:
        """Say how `row` occurs among them, or None: a task by its content, free text by its whole or 13 words.

        A free text is a held-out problem too where it says what that says, whatever stands around it.
        """
        if row.problem is not None and row.problem.content in self._contents:
            return SAME_PROBLEM
        if "\n".join(_asked(row)) in self._texts:
            return SAME_PROMPT
        if is_worded(row) and any(self._says_a_problem(turn) for turn in _asked(row)):
            return SAME_PROBLEM
        if is_worded(row) and self._grams and not self._grams.isdisjoint(_grams(row)):
            return SAME_WORDS
        return None

    def _says_a_problem(self, text: str) -> bool:
        if not self._starts:
            return False
        words = said(text)
        if words and words in self._starts.get(words[:_START_TOKENS], ()):
            return True
        return any(
            words[place : place + len(problem)] == problem and not _goes_on(words, place, place + len(problem))
            for place in range(len(words) - _START_TOKENS + 1)
            for problem in self._starts.get(words[place : place + _START_TOKENS], ())
        )


def is_worded(row: PromptRow) -> bool:
    """Whether its wording tells a row from others: problems of a generator's family share theirs by design."""
    return row.problem is None or row.problem.is_worded


def _asked(row: PromptRow) -> list[str]:
    """What the user said: a system turn more or less does not make it another prompt."""
    return [normalised(turn.content) for turn in row.prompt if turn.role == "user"]


def said(text: str) -> tuple[str, ...]:
    """Words, numbers and signs but punctuation, without case."""
    return tuple(token for token in _TOKEN.findall(normalised(text)) if token not in _PUNCTUATION)


def _goes_on(said: tuple[str, ...], start: int, end: int) -> bool:
    """Whether a calculation goes on around `said[start:end]`: `1 + 5` is another problem in `1 + 5 - 3`."""
    return _continues(said[end - 1], said[end : end + 2]) or _continues(said[start], said[:start][:-3:-1])


def _continues(edge: str, beyond: tuple[str, ...]) -> bool:
    if not beyond or edge.isalpha():
        return False
    if beyond[0][0].isdigit():
        return True
    return len(beyond) == 2 and not beyond[0].isalnum() and beyond[0] != "=" and _is_operand(beyond[1])


def _is_operand(token: str) -> bool:
    return token[0].isdigit() or (len(token) == 1 and token.isalpha())


def _grams(row: PromptRow) -> set[tuple[str, ...]]:
    return {gram for turn in (*_asked(row), *row.follow_ups) for gram in word_grams(turn, GRAM_WORDS)}
