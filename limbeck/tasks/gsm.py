"""gsm_symbolic: the generator's own explanations, checked and made compact, and slips carried through their text.

Some of the generator's explanations are wrong inside (a result rounded down, a fraction of a person), some skip the
step that matters. What cannot be verified is not used: `worked_solution` returns None rather than a doubtful text. It
knows nothing of other families, of splits or of scores.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from random import Random
from typing import Any

from limbeck.records import Problem
from limbeck.tasks.answers import extract_answer
from limbeck.tasks.arithmetic import Statement, Token, statements, tokenise, value_of
from limbeck.tasks.slate import near_misses

# Templates (the generator's own numbers for them) that no training split ever sees: their wording and their chain of
# steps are new at the test. Two to four steps each, explanations that nearly always verify, and no near twin: beyond
# the closing sentence that all templates share, no two of them have much of their wording in common.
HELD_OUT_TEMPLATES = frozenset({10, 20, 34, 44, 54, 58, 62, 67, 70, 72, 78, 95})

_BULLET = re.compile(r"^(?:[•*-]|\d+\.)\s+")
_CONNECTIVE = re.compile(r"^(?:First|Then|So(?! far)|Now|Thus|Hence|Therefore|Altogether)\b,?\s*", re.IGNORECASE)
_MONEY = re.compile(r"[$€£](?=\d)")
_GROUPED = re.compile(r"\b\d{1,3}(?:,\d{3})+\b")
_POINT_ZERO = re.compile(r"(?<![.\d])(\d+)\.0+(?!\d)")
# Floating-point dust (0.30000000000000004) and thirds: nothing a pupil should copy.
_LONG_DECIMAL = re.compile(r"\.\d{4,}")
_FRACTION_WORDS = {"half": "1/2", "third": "1/3", "quarter": "1/4", "fourth": "1/4", "fifth": "1/5"}
_FRACTION_WORD = re.compile(rf"\b(?:one[- ])?({'|'.join(_FRACTION_WORDS)})(?= \*)")
_REASON = re.compile(r"(?P<claim>.+?) because (?P<statement>[^a-zA-Z]*=[^a-zA-Z=]*)")


def worked_solution(facts: Mapping[str, Any], answer: str) -> str | None:
    """Return the generator's explanation in compact form, or None where a statement in it cannot be verified."""
    body = facts["answer_cot"].rpartition("####")[0]
    lines = [line for line in map(_compact, body.splitlines()) if line]
    while lines and not statements(lines[-1]):
        lines.pop()  # the last words only say again what the last statement found
    final = extract_answer(facts["answer_cot"])
    text = "\n".join([*lines, f"#### {final}"])
    if final is None or final != answer or not lines or _LONG_DECIMAL.search(text):
        return None
    return text if _is_sound(lines, final) else None


def _is_sound(lines: Sequence[str], final: str) -> bool:
    """Every statement is true (or about an unknown), and the last number that was worked out is the answer."""
    for line in lines:
        about_an_unknown = any(token.kind == "V" for token in tokenise(line))
        if not all(_is_verified(statement, about_an_unknown) for statement in statements(line)):
            return False
    last = statements(lines[-1])[-1]
    return last.holds is True and value_of(last.right) == Fraction(final)


def _is_verified(statement: Statement, about_an_unknown: bool) -> bool:
    """True, and not the empty `15 = 15`; `152 + T = 233` cannot be checked here, and need not be."""
    if statement.holds is None:
        return about_an_unknown
    return statement.holds and (len(statement.left) > 1 or len(statement.right) > 1)


def _compact(line: str) -> str:
    """Return one line of an explanation in compact form; the empty string where it says nothing with a number."""
    text = _BULLET.sub("", line.strip())
    if text.endswith(":") or not any(letter.isdigit() for letter in text):
        return ""
    text = _MONEY.sub("", text)
    text = _GROUPED.sub(lambda match: match.group().replace(",", ""), text)
    text = _POINT_ZERO.sub(r"\1", text)
    text = _FRACTION_WORD.sub(lambda match: _FRACTION_WORDS[match.group(1)], text)
    text = re.sub(r"(?<=[a-z]):(?=\d)", ": ", text)
    text = _rewritten(_CONNECTIVE.sub("", text))
    reason = _REASON.fullmatch(text)
    if reason:  # the result must not come before the step that finds it
        text = f"{reason['statement']}: {reason['claim']}"
    text = text.rstrip(" .")
    return text[:1].upper() + text[1:]


def _rewritten(line: str) -> str:
    """Write each statement of `line` plainly: `35 onions / 5 onions/minute = 7 minutes` -> `35 / 5 = 7 minutes`."""
    for statement in reversed(statements(line)):
        start = statement.left[0].start
        equals = line.index("=", statement.left[-1].end)
        line = f"{line[:start]}{_plain(statement.left)} = {line[equals + 1 :].lstrip()}"
    return line


def _plain(tokens: Sequence[Token]) -> str:
    """Write an expression with one space around operators and a sign where a bracket multiplies."""
    pieces: list[str] = []
    for before, token in zip((None, *tokens), tokens, strict=False):
        if token.kind == "(" and before is not None and before.kind in "N)":
            pieces.append("*")
        pieces.append(token.text)
    text = " ".join(pieces).replace("( ", "(").replace(" )", ")")
    return re.sub(r"\(([0-9.]+)\)", r"\1", text)


def content(facts: Mapping[str, Any], question: str) -> str:
    """Return template and numbers: names and things are wording. (Refuses a little too much, never too little.)"""
    return f"gsm {facts['template']}: {' '.join(re.findall(r'[0-9][0-9.,/]*', question))}"


def slips(problem: Problem, rng: Random) -> Iterator[str]:
    """Yield the solution with one stated result wrong, and everything that follows from it recomputed."""
    *lines, _ = problem.solution.splitlines()
    places = [(at, nth) for at, line in enumerate(lines) for nth, _ in enumerate(statements(line))]
    for place in rng.sample(places, len(places)):
        target = statements(lines[place[0]])[place[1]]
        wrong = _near_misses(target)
        for value in rng.sample(wrong, len(wrong)):
            text = _carried(problem, place, value)
            if text is not None:
                yield text


def _near_misses(statement: Statement) -> list[Fraction]:
    """Return what could be written instead of a statement's result; nothing where it is no single number."""
    right = value_of(statement.right)
    if len(statement.right) != 1 or right is None:
        return []
    values = [token.value for token in statement.left if token.kind == "N"]
    operators = [token.text for token in statement.left if token.kind == "O"]
    guesses = [right + 1, right - 1, right + 2, right - 2, *([right + 10, right - 10] if right > 20 else [])]
    # What people wrote may be false, or multiply by a bracket without a sign.
    by_one_sign = statement.holds and len(values) == 2 and len(operators) == 1
    if by_one_sign and all(value.denominator == 1 for value in (*values, right)):
        guesses += [Fraction(miss) for miss in near_misses(int(values[0]), operators[0], int(values[1]))]
    return [guess for guess in dict.fromkeys(guesses) if guess > 0 and guess != right]


def _carried(problem: Problem, place: tuple[int, int], wrong: Fraction) -> str | None:
    """Return the solution in which the statement at `place` comes out as `wrong`; None where that is not consistent.

    A number that the question gives, or that stood there before, cannot be told from the result that looks the same:
    such a result is only changed in the last statement, where nothing comes after it but the answer.
    """
    *lines, _ = problem.solution.splitlines()
    last = max((at, nth) for at, line in enumerate(lines) for nth, _ in enumerate(statements(line)))
    changed: dict[str, Fraction] = {}
    taken = {token.text.lstrip("$€£").replace(",", "") for token in tokenise(problem.question) if token.kind == "N"}
    written: list[str] = []
    for at, line in enumerate(lines):
        before = dict(changed)
        operands: set[int] = set()
        for nth, statement in enumerate(statements(line)):
            operands |= {token.start for token in statement.left}
            value = wrong if (at, nth) == place else _recomputed(statement, changed)
            if value is None:
                return None
            result = statement.right[0].text
            if value != value_of(statement.right):
                if (at, nth) != last and result in taken:
                    return None
                changed[result] = value
        taken |= {token.text for token in tokenise(line) if token.kind == "N"}
        written.append(_with_numbers(line, before, changed, operands))
    answer = changed.get(problem.answer)
    return None if answer is None else "\n".join([*written, f"#### {_number(answer)}"])


def _recomputed(statement: Statement, changed: Mapping[str, Fraction]) -> Fraction | None:
    """Return the result after the change of its operands; None where it makes no sense as such a result any more."""
    right = value_of(statement.right)
    if not any(token.text in changed for token in statement.left):
        return right
    value = value_of(statement.left, changed)
    if value is None or right is None or len(statement.right) != 1 or statement.holds is None:
        return None
    fits = value > 0 and (value.denominator == 1 or (right.denominator > 1 and (100 * value).denominator == 1))
    return value if fits else None


def _with_numbers(line: str, before: Mapping[str, Fraction], after: Mapping[str, Fraction], operands: set[int]) -> str:
    """Write the changed numbers into `line`: operands as they were before its statements, all others as after."""
    for token in reversed(tokenise(line)):
        value = (before if token.start in operands else after).get(token.text) if token.kind == "N" else None
        if value is not None:
            line = f"{line[: token.start]}{_number(value, token.text)}{line[token.end :]}"
    return line


def _number(value: Fraction, like: str = "") -> str:
    """Write a number the way `like` is written: as a percentage where that is one."""
    if like.endswith("%"):
        return f"{_number(value * 100)}%"
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.10g}"
