r"""Word problems from files, as GSM8K's: a question, a worked answer that ends in `#### N`, and exact numbers compared.

A number is read from a reply after its last `####` (unless that is a heading, as `#### Step 2: Money`), else from its
last `\boxed{}`, else from the sentence of its last "answer is", else it is the last one there is. Nothing is rounded:
33.3 is not 100/3. Bounded in time on any input.
"""

import re
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from limbeck.likeness import said
from limbeck.records import Problem
from limbeck.tasks.answers import HEADING, TAIL_CHARS

GSM8K = "gsm8k"
MARK = "####"
STATED_CHARS = 200  # how far behind "the answer is" a number may stand, and how long a `####` line is read
_CALCULATOR = re.compile(r"<<[^<>\n]*>>")  # GSM8K's notes for a calculator: not meant to be written by a model
_DECORATION = re.compile(
    r"[$€£¥₹`°]|(?<!\*)(?:(?<!\d)\*++|\*++(?!\d))|\\[!,;$ ]|\\text\s?\{[^{}\d]{0,40}\}"  # 4*3 and 2**3 are no bold type
    r"|(?<=\d)\{(?=,\})|(?<=,)\}(?=\d)|\\(?=%)"
)
_TEXT = re.compile(r"\\text\s?\{([^{}]{0,40}\d[^{}]{0,40})\}")  # the number is what is meant, however it is set
_BULLET = re.compile(r"\n[ \t]*[-+][ \t]+")  # of a list: no sign of the number behind it
_FRACTION = re.compile(r"\\[dt]?frac\s?\{(-?\d{1,18})\}\s?\{(\d{1,18})\}")
_BOXED = re.compile(r"\\boxed\s?\{([^{}]{0,100})\}")
_SAYS = re.compile(r"(?i)\banswer\b(?:\s+(?:is|are|will be|would be|(?P<told>was|were))\b|\s*[:=])")
_OPENS = re.compile(r"[(\[][^()\[\]=\d]*\Z")
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s)")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d{1,3}(?:[\u202f\u00a0]\d{3})+|\d{1,30})(?!\d)"
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<sign>(?<!\d\s)[-+]\s?|)(?:(?P<whole>\d{{1,9}})\s(?=\d{{1,9}}\s?/\s?\d))?"
    rf"(?P<number>{_DIGITS}(?:\.\d{{1,30}})?(?:[eE][-+]?\d{{1,2}}(?!\w))?|\.\d{{1,30}})"
    r"(?:\s?/\s?(?P<below>\d{1,18})(?!\.?\d))?(?P<percent>\s?(?:%|percent\b))?"
)
_SEPARATORS = str.maketrans("", "", ",\u202f\u00a0")


class Number(NamedTuple):
    """A number as it was written. `percent`: `60%` is 60 to some data sets and 0.6 to others, and equals both."""

    value: Fraction
    percent: bool = False

    def equals(self, key: Fraction) -> bool:
        """Exactly, in either reading of a percentage."""
        return self.value == key or (self.percent and self.value == 100 * key)


class Worked(NamedTuple):
    """A data set's answer: the text without calculator notes, and its number where it has one."""

    text: str
    number: Fraction | None


def read_answer(answer: str) -> Worked:
    """Read an answer as GSM8K has it: its number stands alone behind the last `####`, or is all there is."""
    text = _CALCULATOR.sub("", answer)
    _, mark, last = text.rpartition(MARK)
    if mark and "\n" in last.strip():
        return Worked(text, None)
    number = _alone(last if mark else text)
    return Worked(text, number.value if number and not number.percent else None)


def problem_of(question: str, answer: Worked) -> Problem | None:
    """The problem behind a row of a file; None where its answer is no number, or one of more than 30 digits.

    What makes it the same problem is what it says: words, numbers and signs, without case and punctuation.
    """
    if answer.number is None:
        return None
    key = written(answer.number)
    if (read := _alone(key)) is None or read.value != answer.number:  # of more digits than any reply is read to
        return None
    solution = answer.text if MARK in answer.text else f"{MARK} {key}"
    return Problem(
        family=GSM8K,
        question=question,
        answer=key,
        metadata={"worded": True},
        solution=solution,
        content=f"{GSM8K} {' '.join(token.replace(',', '') for token in said(question))}",
    )


def final_number(reply: str) -> Number | None:
    """The number that a reply ends up with; None where there is none."""
    tail = reply[-TAIL_CHARS:]
    if (at := reply.rfind(MARK)) >= 0:
        line = reply[at + len(MARK) : at + len(MARK) + STATED_CHARS].strip().split("\n", 1)[0]
        is_heading = HEADING.match(line) and "\n" in reply[at:].strip()
        if not is_heading and (found := result(line)) is not None:
            return found
    for stated in (_BOXED.findall(_plain(tail)), _behind_the_last(tail)):
        if stated and (found := result(stated[-1])) is not None:
            return found
    return next(reversed(_numbers(tail)), None)


def key_of(problem: Problem) -> Fraction | None:
    """The number that is right; None where a damaged file has none."""
    number = _alone(problem.answer)
    return number.value if number else None


def written(value: Fraction) -> str:
    """A number as a key: whole or decimal where that is exact, else a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    exact = format((Decimal(value.numerator) / Decimal(value.denominator)).normalize(), "f")
    return exact if rest == 1 and Fraction(exact) == value else f"{value.numerator}/{value.denominator}"


def result(stated: str) -> Number | None:
    """Of `5 + 3 = 8 apples` the 8: what stands behind the last equals sign, and there the first number.

    Of `18 (= 9 * 2)` the 18: an equals sign that opens brackets only says where the number before them comes from.
    """
    before, _, behind = stated.rpartition("=")
    opened = _OPENS.search(before)
    if opened and (found := result(before[: opened.start()])) is not None:
        return found
    numbers = _numbers(behind) or _numbers(stated)
    return numbers[0] if numbers else None


def _behind_the_last(text: str) -> list[str]:
    """The sentence of the last "answer is"; none where working follows one that opens the reply or only tells of one
    ("the third answer was 5").
    """
    found = list(_SAYS.finditer(text))
    if not found:
        return []
    behind = text[found[-1].end() :]
    stated = _SENTENCE_END.split(behind[:STATED_CHARS].lstrip(" \t\n:=*"), maxsplit=1)[0]
    opens = not text[: found[-1].start()].strip(" *#\n")
    works_on = "=" in behind[behind.index(stated) + len(stated) :]
    if (opens or found[-1]["told"]) and works_on and _alone(stated) is None:
        return []
    return [stated]


def _alone(text: str) -> Number | None:
    """The number that is all of `text` but for its decoration."""
    plain = _plain(text).strip().rstrip(".")
    match = _NUMBER.fullmatch(plain)
    return _value(match) if match else None


def _numbers(text: str) -> list[Number]:
    found = (_value(match) for match in _NUMBER.finditer(_plain(text)))
    return [number for number in found if number is not None]


def _plain(text: str) -> str:
    text = _FRACTION.sub(r"\1/\2", _BULLET.sub("\n", text.replace("−", "-")))
    return _DECORATION.sub("", _TEXT.sub(r" \1 ", text))


def _value(match: re.Match[str]) -> Number | None:
    value = Fraction(Decimal(match["number"].translate(_SEPARATORS)))
    if match["below"]:
        if not int(match["below"]):
            return None
        value /= int(match["below"])
    value += int(match["whole"] or 0)
    return Number(-value if match["sign"].startswith("-") else value, bool(match["percent"]))
