"""Arithmetic as text: find the statements `expression = expression` in a line and say which of them are false.

Exact throughout (fractions, never floats) and linear in the length of its input. It refuses to guess: a statement
that holds a letter, a time of day or an operator with nothing beside it is not understood, and is neither true nor
false.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple, TypeVar

# Statements live on short lines; longer ones are no worked solution, and skipping them keeps hostile input cheap.
MAX_LINE_CHARS = 500

_SPELLINGS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "∕": "/"})
_LEXEME = re.compile(
    r"(?P<variable>[0-9]+(?::[0-9]+)+)"  # a time of day: understood by nobody here
    r"|(?P<number>[$€£]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?%?)"
    r"|(?P<word>/?[^\W\d_][\w'’]*)"  # `/hour` in `74/hour * 8 hours` is part of a unit, not a division
    r"|(?P<comparison>[<>!=]=|->|=>)"
    r"|(?P<equals>=)|(?P<open>\()|(?P<close>\))|(?P<operator>[-+*/])|(?P<other>\S)"
)
_LETTER = {"variable": "V", "number": "N", "word": "W", "comparison": "P", "equals": "=", "open": "("}
_LETTER |= {"close": ")", "operator": "O", "other": "P"}

# What may stand before and after a whole statement: `12 : 4 + 2` is a ratio, `0.666...` and `2, remainder 3` go on.
_ENDS_BEFORE = re.compile(r"(?:^|[=,;]|(?<![\d\s])\s*:)\Z")
_BEGINS_AFTER = re.compile(r"\Z|=|[,;](?!\s*r)|\.(?!\.)", re.IGNORECASE)

_WORDS_OF_ONE_LETTER = {"a", "A", "I"}  # every other lone letter is taken for an unknown

# An expression over the letters above: numbers, each with up to five words of unit, joined by operators; a bracket
# right after a number multiplies. Possessive (`*+`), so that a run of brackets is tried once, not in every split.
_UNIT = r"(?:W{1,5}\)*+)?"
_EXPRESSION = rf"\(*+N\)*+(?:{_UNIT}(?:O|(?=\())\(*+N\)*+)*"
_BEFORE_EQUALS = re.compile(rf"({_EXPRESSION}{_UNIT})(?=W*\Z)")
_AFTER_EQUALS = re.compile(_EXPRESSION)

Value = TypeVar("Value")
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


class Token(NamedTuple):
    """A piece of a line: its kind (one letter), its text, and where it lies."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def value(self) -> Fraction:
        """The number that a number token states."""
        plain = self.text.replace(",", "").lstrip("$€£").replace("-$", "-").replace("-€", "-").replace("-£", "-")
        return Fraction(plain[:-1]) / 100 if plain.endswith("%") else Fraction(plain)


class Statement(NamedTuple):
    """`left = right` in a line. `holds` is None where one side could not be understood."""

    left: tuple[Token, ...]
    right: tuple[Token, ...]
    text: str
    holds: bool | None


def check_arithmetic(text: str) -> list[str]:
    """Return the arithmetic statements in `text` that are false, as they stand there."""
    return [found.text for line in text.splitlines() for found in statements(line) if found.holds is False]


def slips(text: str) -> list[str]:
    """Those of `check_arithmetic` that are mistakes in anybody's text, whatever words stand around them.

    Free text says `1 hour = 60 minutes`, `4 times 5 = 20`, `17 mod 7 = 3`, `17 / 7 = 2 remainder 3`. What is false here
    computes something, in numbers alone, and stands alone: at the start of its line or after `=`, a comma or a label,
    up to the line's end or to such a sign.
    """
    return [found.text for line in text.splitlines() for found in statements(line) if _is_slip(found, line)]


def _is_slip(found: Statement, line: str) -> bool:
    if found.holds is not False or not any(token.kind == "O" for token in found.left):
        return False
    before, after = line[: found.left[0].start].rstrip(), line[found.right[-1].end :].lstrip()
    alone = bool(_ENDS_BEFORE.search(before)) and bool(_BEGINS_AFTER.match(after))
    words = any(character.isalpha() and character not in "xX" for character in found.text)  # `57 x 11` is a product
    return alone and not words and not any(token.text.endswith("%") for token in (*found.left, *found.right))


def statements(line: str) -> list[Statement]:
    """Return every `left = right` of `line` that has a number beside its equals sign; `a = b = c` is two of them."""
    tokens = tokenise(line)
    letters = "".join(token.kind for token in tokens)
    found = (_statement(line, tokens, letters, at) for at, letter in enumerate(letters) if letter == "=")
    return [statement for statement in found if statement is not None]


def tokenise(line: str) -> list[Token]:
    """Cut `line` into tokens, with `x` between numbers read as times and a minus that opens a number as its sign."""
    if len(line) > MAX_LINE_CHARS:
        return []
    plain = line.translate(_SPELLINGS)
    tokens: list[Token] = []
    for match in _LEXEME.finditer(plain):
        kind = _LETTER[match.lastgroup or "other"]
        token = Token(kind, match.group(), match.start(), match.end())
        if kind == "W" and len(token.text) == 1 and token.text not in _WORDS_OF_ONE_LETTER:
            token = token._replace(kind="V")
        tokens.append(token)
    return list(_with_signs(plain, _with_times(tokens)))


def _with_times(tokens: Sequence[Token]) -> list[Token]:
    """Turn the `x` of `57 x 11` and of `294 pages x 2/3` into an operator; the `x` of `2x + 20` stays a variable."""
    result = list(tokens)
    for before, (at, token), after in zip(tokens, enumerate(tokens[1:], 1), tokens[2:], strict=False):
        if token.text in {"x", "X"} and before.kind in "NW)" and after.kind in "N(":
            result[at] = token._replace(kind="O", text="*")
    return result


def _with_signs(line: str, tokens: Sequence[Token]) -> Iterator[Token]:
    """Join a minus to its number where it cannot be a subtraction: `-15 - 8`, `3 * -4`, `(-2 + 1)`, `gives -5`."""
    before, at = "P", 0
    while at < len(tokens):
        token = tokens[at]
        after = tokens[at + 1] if at + 1 < len(tokens) else None
        touches = after is not None and after.kind == "N" and after.start == token.end
        spaced = before == "W" and token.start > 0 and line[token.start - 1].isspace()
        if token.text == "-" and after is not None and touches and (before in "P=O(" or spaced):
            token = Token("N", "-" + after.text, token.start, after.end)
            at += 1
        yield token
        before = token.kind
        at += 1


def _statement(line: str, tokens: Sequence[Token], letters: str, at: int) -> Statement | None:
    """Read the statement around the equals sign at token `at`; None where no number stands beside it."""
    start = letters.rfind("=", 0, at) + 1
    left_match = _BEFORE_EQUALS.search(letters[start:at])
    right_match = _AFTER_EQUALS.match(letters, at + 1)
    if left_match is None or right_match is None:
        return None
    first, last = start + left_match.start(), start + left_match.end()
    left = tuple(token for token in tokens[first:last] if token.kind != "W")
    right = tuple(token for token in tokens[right_match.start() : right_match.end()] if token.kind != "W")
    whole = not _dangles(letters[:first][-1:]) and not _dangles(letters[right_match.end() :].lstrip("W")[:1])
    text = line[tokens[first].start : tokens[right_match.end() - 1].end]
    return Statement(left, right, text, _equal(left, right) if whole else None)


def _dangles(letter: str) -> bool:
    """Whether the expression goes on beyond what was understood: an operator or a variable comes next."""
    return letter != "" and letter in "OV"


def _equal(left: Sequence[Token], right: Sequence[Token]) -> bool | None:
    """Compare both sides; a right side written with decimals may be rounded in its last place."""
    a, b = value_of(left), value_of(right)
    if a is None or b is None:
        return None
    return abs(a - b) <= _rounding(right)


def _rounding(right: Sequence[Token]) -> Fraction:
    """Half a unit in the last decimal place of a lone decimal number; nothing for whole numbers and expressions."""
    _, point, decimals = right[0].text.rstrip("%").partition(".")
    if len(right) != 1 or not point:
        return Fraction(0)
    unit = Fraction(1, 10 ** len(decimals))
    return unit / 200 if right[0].text.endswith("%") else unit / 2


def value_of(tokens: Sequence[Token], instead: Mapping[str, Fraction] | None = None) -> Fraction | None:
    """Return the value of an expression, or None where it has none (unbalanced, a division by zero).

    `instead` gives other values for the numbers with these texts: the same expression after a change of its operands.
    """
    replaced = instead or {}
    items: list[Fraction | str] = []
    for before, token in zip((None, *tokens), tokens, strict=False):
        if token.kind == "(" and before is not None and before.kind in "N)":
            items.append("*")
        items.append(replaced.get(token.text, token.value) if token.kind == "N" else token.text)
    try:
        return evaluate(items, _exact)
    except (ValueError, ZeroDivisionError):
        return None


def evaluate(items: Sequence[Value | str], apply: Callable[[Value, str, Value], Value]) -> Value:
    """Evaluate numbers, operators and brackets in the usual order, calling `apply` once an operation, in that order.

    Dijkstra's shunting yard: no recursion, so nested brackets cannot exhaust the stack. Raises ValueError where the
    items are no expression.
    """
    values: list[Value] = []
    pending: list[str] = []

    def reduce() -> None:
        operator = pending.pop()
        if operator == "(" or len(values) < 2:
            raise ValueError("not an expression")
        right, left = values.pop(), values.pop()
        values.append(apply(left, operator, right))

    for item in items:
        if not isinstance(item, str):
            values.append(item)
        elif item == "(":
            pending.append(item)
        elif item == ")":
            while pending and pending[-1] != "(":
                reduce()
            if not pending:
                raise ValueError("a bracket is closed that was never opened")
            pending.pop()
        else:
            while pending and _PRECEDENCE.get(pending[-1], 0) >= _PRECEDENCE[item]:
                reduce()
            pending.append(item)
    while pending:
        reduce()
    if len(values) != 1:
        raise ValueError("not an expression")
    return values[0]


def _exact(left: Fraction, operator: str, right: Fraction) -> Fraction:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    return left * right if operator == "*" else left / right


def canonical_expression(items: Sequence[int | str]) -> str:
    """Return an expression in a form that does not depend on the order of its terms, where order does not matter.

    A pure product and a pure sum are sorted; anything else stays as it is. Two families that ask for the same sum
    therefore ask for the same content.
    """
    operators = set(items[1::2])
    if operators <= {"+", "-"} and "(" not in items:
        signs = ["+", *items[1::2]]
        terms = sorted(f"{sign}{number}" for sign, number in zip(signs, items[::2], strict=True))
        return "expression: " + " ".join(terms)
    if operators == {"*"} and "(" not in items:
        return "expression: " + " * ".join(sorted(str(number) for number in items[::2]))
    return "expression: " + " ".join(str(item) for item in items)
