"""Texts as words, and which of them may decide what is said: figures, signs, negations, opposites, names. Pure.

A list of words knows few languages (mostly English): where it does not know a word, the word counts as harmless.
Start reading at: `tokens`.
"""

import re
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
    return word[0].isupper() and place > 0 and words[place - 1] not in _OPENS_A_SENTENCE


def prompt_words(text: str) -> list[str]:
    """What prompts are compared by: words without case, figures, calculating signs; no other punctuation."""
    words = tokens(text)
    return [word.casefold() for place, word in enumerate(words) if word[0].isalpha() or is_figure(words, place)]
