"""Replies that say again what was put to somebody: the prompt to the student, or the template to the teacher. Pure.

Start reading at: `prompt_echo`, `TemplateEcho`.
"""

import re
from collections.abc import Iterable

from limbeck.likeness import normalised, word_grams
from limbeck.records import Pair

ECHO_WORDS = 5  # a reply to a shorter prompt may well begin with its words ("Hello!" to "Hello!")
TEMPLATE_WORDS = 8  # in a row: long enough that two writers do not come upon them by chance
# What the student said wrong is what it has to unlearn, echoes too; a teacher has no excuse.
STUDENTS_OWN = frozenset({"on_policy", "revise"})
# The tags data stands in, the keys of the reply's JSON, and the word that only this protocol uses for an answer.
_TRACES = re.compile(
    r"</?(?:prompt|example|examples|weak_prompt|reply|pair)>|\"(?:preferred|dispreferred|revised)\"\s*:"
    r"|\{\s*\"prompt\"\s*:|\bdispreferred\b|\A\W*(?:preferred|revised)(?: (?:answer|response|reply))?\W*:",
    re.IGNORECASE,
)
_HINT = re.compile(r"[<\"]|prefer|\A\W*revised", re.IGNORECASE)


def prompt_echo(pair: Pair) -> str | None:
    """Say which answer begins with the whole prompt instead of answering it."""
    prompt = normalised(pair.prompt[-1].content)
    if len(prompt.split()) < ECHO_WORDS:
        return None
    if _begins_with(pair.chosen, prompt):
        return "prompt echo (chosen)"
    if pair.source not in STUDENTS_OWN and _begins_with(pair.rejected, prompt):
        return "prompt echo (rejected)"
    return None


def _begins_with(text: str, prompt: str) -> bool:
    # Folding and joining may shorten a text, but hardly to a quarter; the rest of a long answer need not be folded.
    return normalised(text[: 4 * len(prompt) + 200]).startswith(prompt)


class TemplateEcho:
    """Knows the teacher's templates, and finds their tags, keys and sentences in answers."""

    def __init__(self, templates: Iterable[str] = ()) -> None:
        self._grams = frozenset(gram for text in templates for gram in word_grams(text, TEMPLATE_WORDS))

    def reason(self, pair: Pair) -> str | None:
        """Say which answer repeats the template. What the prompt itself contains may be repeated."""
        if self._echoes(pair, pair.chosen):
            return "template echo (chosen)"
        if pair.source not in STUDENTS_OWN and self._echoes(pair, pair.rejected):
            return "template echo (rejected)"
        return None

    def _echoes(self, pair: Pair, text: str) -> bool:
        if _HINT.search(text):
            traces = {normalised(trace[0]) for trace in _TRACES.finditer(text)}
            if traces and not all(trace.strip(":# *") in _asked(pair) for trace in traces):
                return True
        if not self._grams or pair.source == "human":  # people saw no template
            return False
        repeated = self._grams & word_grams(text, TEMPLATE_WORDS)
        return bool(repeated) and not repeated <= word_grams(_asked(pair), TEMPLATE_WORDS)


def _asked(pair: Pair) -> str:
    return "\n".join(normalised(turn.content) for turn in pair.prompt)
