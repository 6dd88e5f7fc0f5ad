"""Find the final answer in a reply: what stands after the last `####`. Pure text, bounded in time on any input."""

import re

# No key of any family is longer than a short list of numbers; a longer "answer" is rambling, not an answer.
MAX_ANSWER_CHARS = 200

_GROUPED = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_WHOLE = re.compile(r"([-+]?\d+)\.0+")


def extract_answer(text: str) -> str | None:
    """Return the text after the last `####` up to the end of its line, freed of decoration; None if there is none.

    Decoration is what does not change the value: `**`, backticks, `$` and other currency signs, a degree sign, a full
    stop, thousands separators, and `.0` behind a whole number. Units are left alone: scorers differ about them.
    """
    at = text.rfind("####")
    if at < 0:
        return None
    line = text[at + 4 : at + 4 + MAX_ANSWER_CHARS + 1].split("\n", 1)[0]
    if len(line) > MAX_ANSWER_CHARS:
        return None
    return _undecorated(line) or None


def _undecorated(line: str) -> str:
    answer = line.replace("−", "-").strip(" \t\r*`$€£°").rstrip(".").strip(" \t\r*`$€£°")
    if answer[:2] in {"-$", "-€", "-£"}:
        answer = "-" + answer[2:]
    if _GROUPED.fullmatch(answer):
        answer = answer.replace(",", "")
    whole = _WHOLE.fullmatch(answer)
    return whole.group(1) if whole else answer
