"""Replies that say again what was put to somebody: the prompt to the student, or the template to the teacher. Pure.

Start reading at: `prompt_echo`, `TemplateEcho`.
"""

import re
from collections.abc import Sequence

from limbeck.likeness import begins_with_prompt, normalised, word_grams
from limbeck.records import Pair

TEMPLATE_WORDS = 8  # in a row: long enough that two writers do not come upon them by chance
# What the student or a weaker model said wrong is what is to be unlearnt, echoes too; a teacher has no excuse.
REJECTED_AS_IT_CAME = frozenset({"on_policy", "own", "reference", "divergence", "revise", "contrast"})
_NO_TEMPLATE = frozenset(
    {"human", "on_policy", "own", "reference", "divergence", "contrast"}
)  # whose writers saw none: nothing there to repeat
# A template's tags are those that data stands in, or that it says data stands in: "inside <example> and <prompt> tags".
_TEMPLATE_TAG = re.compile(r"<([a-z][a-z_]*)>(?=\s*\{\{| and | tags\b)")
# The reply's JSON, and its keys as a headline. `Revised:` alone is what anybody may write.
_KEYS = re.compile(
    r"\"(?:dis)?preferred\"\s*:|\{\s*\"(?:prompt|revised)\"\s*:"
    r"|\A\W*(?:dis)?preferred(?: (?:answer|response|reply))?\W*:",
    re.IGNORECASE,
)
# Who asks for such a form is given its tags and keys, whatever they are called.
_ASKS_FOR_A_FORM = re.compile(
    r"\b(?:xml|html|xhtml|svg|rss|jsonl?|yaml|toml|markup|schema|api|dict(?:ionary)?|object|tags?|elements?|config\w*)\b",
    re.IGNORECASE,
)


def prompt_echo(pair: Pair) -> str | None:
    """Say which answer begins with the whole prompt instead of answering it."""
    prompt = pair.prompt[-1].content
    if begins_with_prompt(pair.chosen, prompt):
        return "prompt echo (chosen)"
    if pair.source not in REJECTED_AS_IT_CAME and begins_with_prompt(pair.rejected, prompt):
        return "prompt echo (rejected)"
    return None


class TemplateEcho:
    """Knows the teacher's templates, and finds their tags, keys and sentences in answers."""

    def __init__(self, templates: Sequence[str] = ()) -> None:
        tags = sorted({tag for text in templates for tag in _TEMPLATE_TAG.findall(text)})
        self._tags = re.compile(f"</?(?:{'|'.join(tags)})>", re.IGNORECASE) if tags else None
        self._grams = frozenset(gram for text in templates for gram in word_grams(text, TEMPLATE_WORDS))

    def reason(self, pair: Pair) -> str | None:
        """Say which answer repeats the template. What the prompt itself contains may be repeated.

        Human pairs, and those of a model that saw the prompt alone, repeat none.
        """
        if pair.source in _NO_TEMPLATE:
            return None
        if self._echoes(pair, pair.chosen):
            return "template echo (chosen)"
        if pair.source not in REJECTED_AS_IT_CAME and self._echoes(pair, pair.rejected):
            return "template echo (rejected)"
        return None

    def _echoes(self, pair: Pair, text: str) -> bool:
        traces = {normalised(trace[0]) for found in (self._tags, _KEYS) if found for trace in found.finditer(text)}
        if any(trace.strip(":# *") not in _asked(pair) for trace in traces) and not _asks_for_a_form(pair):
            return True
        repeated = self._grams & word_grams(text, TEMPLATE_WORDS)
        return bool(repeated) and not repeated <= word_grams(_asked(pair), TEMPLATE_WORDS)


def _asks_for_a_form(pair: Pair) -> bool:
    return any(_ASKS_FOR_A_FORM.search(turn.content) for turn in pair.prompt)


def _asked(pair: Pair) -> str:
    return "\n".join(normalised(turn.content) for turn in pair.prompt)
