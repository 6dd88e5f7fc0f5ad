"""Texts as words, and which of them may decide what is said: figures, signs, negations, opposites, names. Pure.

A list of words knows few languages (mostly English): where it does not know a word, the word counts as harmless.
Start reading at: `tokens`.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence

# A number with its separators; one sign of a script written without spaces; a word with its apostrophes; any sign.
_TOKEN = re.compile(
    r"\d+(?:[.,:]\d+)*|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\d_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
    r"(?:['’][^\W\d_]+)*|[^\w\s]|_"
)


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_RELATIONS = frozenset("+=<>%^√×÷≤≥≠≈±∞")  # calculate wherever they stand
_OPERATORS = frozenset("-−–*/·")  # are bullets, hyphens and emphasis too: calculate beside a figure only
_NUMBERS = _listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion dozen "
    "half quarter third twice thrice once double triple first second fourth fifth"
)
_NEGATIONS = _listed(
    "no not never none nothing nobody neither nor without cannot non "  # English
    "kein keine keinen nicht nie ohne nein ne pas jamais sans rien ni nunca nada sin não nem sem mai niente senza "
    "niet geen nooit zonder bez не нет ни без 不 没 沒 無 无 非 未 否"
)
_OPPOSITES = _listed(
    "yes true false right wrong correct incorrect possible impossible more less fewer most least greater smaller "
    "larger higher lower longer shorter older younger above below over under before after increase increases "
    "increased decrease decreases decreased add adds added subtract subtracts subtracted multiply multiplied divide "
    "divided plus minus times sum difference product quotient up down left right north south east west always "
    "sometimes often rarely every each all any some both either only maximum minimum max min odd even positive "
    "negative hot cold open closed same different safe unsafe legal illegal if unless and or but because although "
    "male female he she his her monday tuesday wednesday thursday friday saturday sunday"
)
_DECISIVE = _NUMBERS | _NEGATIONS | _OPPOSITES
_ARTICLES = frozenset("aAI")  # the single letters that are words of English
# A fence, back-ticks, or a word that a dot, underscore, bracket joins to more.
_CODE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]+`|\b\w+(?:(?:\.(?=[^\W\d])|_)\w+|\[[^\[\]\s]*\]|\([^()\n]*\))+|\b\w*_\w*", re.DOTALL
)
_QUOTES = frozenset("`'\"“”‘’")
_DASHES = frozenset("-–—*•#·")  # bullets, rules, headings
_ORDINARY = _QUOTES | _DASHES | frozenset(".,;:!?…«»()_¿¡。，！？、")
_SIGNS = re.compile(r"(?:[^\w\s]|_)+")
_OPENS_A_SENTENCE = frozenset(".!?:;*#-–•>\"“”'‘(|")


def tokens(text: str) -> list[str]:
    """Split into words, numbers and signs; case stays. Every sign of Chinese and Japanese is a word of its own."""
    return _TOKEN.findall(text)


def is_figure(words: Sequence[str], place: int) -> bool:
    """Whether the word at `place` is a number, or a sign that calculates there."""
    word = words[place]
    if word[0].isnumeric() or word.casefold() in _NUMBERS or word in _RELATIONS:
        return True
    if word not in _OPERATORS:
        return False
    beside = [*words[max(0, place - 1) : place], *words[place + 1 : place + 2]]
    return any(near[0].isnumeric() or (len(near) == 1 and near.isalpha()) for near in beside)


def figures(words: Sequence[str]) -> tuple[str, ...]:
    """The numbers and calculating signs of a text, in order."""
    return tuple(words[place].casefold() for place in range(len(words)) if is_figure(words, place))


def is_decisive(words: Sequence[str], place: int) -> bool:
    """Whether another word at `place` may make the text say something else: figure, negation, opposite, or a name.

    A name is a capital inside a sentence: `Paris` in `it is Paris`.
    """
    word = words[place]
    if is_figure(words, place) or word.casefold() in _DECISIVE or word.casefold().endswith(("n't", "n’t")):
        return True
    return is_name(words, place) or (len(word) == 1 and word.isascii() and word.isalpha() and word not in _ARTICLES)


def is_name(words: Sequence[str], place: int) -> bool:
    """Whether the word at `place` has a capital and does not open a sentence."""
    return words[place][0].isupper() and place > 0 and words[place - 1] not in _OPENS_A_SENTENCE


def names(words: Sequence[str]) -> frozenset[str]:
    """The names in a text, without case; in a text of nothing but capitals, nearly every word."""
    return frozenset(word.casefold() for place, word in enumerate(words) if is_name(words, place))


def words_in_code(text: str) -> frozenset[int]:
    """Which of `tokens(text)` are part of code: in back-ticks or a fence, or of `item.price`, `a_b`, `a[i]`, `f(x)`."""
    spans = [match.span() for match in _CODE.finditer(text)]
    if not spans:
        return frozenset()
    starts = [start for start, _ in spans]
    inside = set()
    for place, token in enumerate(_TOKEN.finditer(text)):
        last = bisect_right(starts, token.start()) - 1
        if last >= 0 and token.start() < spans[last][1]:
            inside.add(place)
    return frozenset(inside)


def signs(text: str) -> tuple[str, ...]:
    """The runs of signs in a text that say something, in order; of a text without words all signs, as one run.

    Beside words, punctuation and markup say nothing where they cling to a word or end the text; between spaces or in
    quotes they are meant: "What does ! do in C?".
    """
    if not any(character.isalnum() for character in text):
        return tuple("".join(part) for part in [text.split()] if part)
    found = []
    text = text.strip().rstrip(".,;:!?… \t\n\r")
    for run in _SIGNS.finditer(text):
        before, after = text[max(0, run.start() - 1) : run.start()], text[run.end() : run.end() + 1]
        ignored = _QUOTES if _is_meant(run[0], before, after) else _ORDINARY
        found.append("".join(sign for sign in run[0] if sign not in ignored))
    return tuple(run for run in found if run)


def _is_meant(run: str, before: str, after: str) -> bool:
    inner = run.strip("".join(_QUOTES))
    if inner and run[0] in _QUOTES and run[-1] in _QUOTES:
        return True
    return before.isspace() and after.isspace() and not set(run) <= _DASHES


def prompt_words(text: str) -> list[str]:
    """What prompts are compared by: words without case, figures, calculating signs; no other punctuation."""
    words = tokens(text)
    return [word.casefold() for place, word in enumerate(words) if word[0].isalpha() or is_figure(words, place)]
