"""Find the final answer in a reply: after the last `####`, unless that is a heading, or else the last thing that looks
like an answer.

Pure text, bounded in time on any input.
"""

import re

# No key of any family is longer than a short list of numbers; a longer "answer" is rambling, not an answer.
MAX_ANSWER_CHARS = 200

# A model that was never shown `####` states its answer near the end; what lies further back is working.
TAIL_CHARS = 2_000

# In markdown `####` opens a heading; where text follows, that holds the answer.
HEADING = re.compile(r"(?i)\W*(?:(?:step|part|method|phase|section|case)\s+\d+\b|\d{1,2}\s?[.):]\W*[a-z])")
_TITLE = re.compile(r"(?i)\W*(?:the\s+)?(?:(?:final|correct)\s+)?(?:answer|solution|result|conclusion)\W*")

_NUMBER = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d+(?:\.\d+)?")
_FRACTION = re.compile(r"-?\d{1,18}\s{0,2}/\s{0,2}\d{1,18}")
_LIST = re.compile(r"\[[^\[\]]{0,200}\]")
_WORD = re.compile(r"[^\W\d_]+")
_GROUPED = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_WHOLE = re.compile(r"([-+]?\d+)\.0+")


def extract_answer(text: str) -> str | None:
    """Return the text after the last `####` up to the end of its line, freed of decoration; None if there is none, or
    if that is the heading of what follows, as `#### Step 2: Money` or `#### Final Answer`.

    Decoration is what does not change the value: `**`, backticks, `$` and other currency signs, a degree sign, a full
    stop, thousands separators, and `.0` behind a whole number. Units are left alone: scorers differ about them.
    """
    at = text.rfind("####")
    if at < 0:
        return None
    line = text[at + 4 : at + 4 + MAX_ANSWER_CHARS + 1].split("\n", 1)[0]
    if len(line) > MAX_ANSWER_CHARS:
        return None
    if (HEADING.match(line) or _TITLE.fullmatch(line)) and text[at + 4 + len(line) :].strip():
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


def last_value_like(key: str, text: str) -> str | None:
    """Return the last piece of `text` that has the shape of `key`: a number, a fraction, a list, else a word.

    For replies without a `####` line, so that a model is not called wrong for a format that it was never taught.
    """
    tail = text[-TAIL_CHARS:]
    shapes = [_FRACTION, _NUMBER, _LIST]
    shape = next((pattern for pattern in shapes if pattern.fullmatch(key.strip())), _WORD)
    found = shape.findall(tail)
    if not found and shape is _FRACTION:
        found = _NUMBER.findall(tail)  # 8/2 simplifies to a whole number
    return _undecorated(found[-1]) if found else None
