"""Two answers beside each other: too short, equal, nearly equal, too different in length. Pure.

What "nearly equal" means here. A pair whose answers differ in one decisive word (the number, the sign, the "not", the
name, the variable) is the sharpest lesson there is, and a short answer has no other words. So two answers are nearly
equal only where they are long and share almost every word in order (`max_answer_similarity`), and nothing in the rest
can decide what they say. Not even those are dropped where the likeness is meant or judged by somebody who knows:
corrections of the student's own reply (`revise`), and problems that have a scorer.

What it cannot see: one ordinary word for another that makes the answer false ("the ribosome" for "the mitochondrion" in
a long text) may be dropped; words of languages beyond its lists count as ordinary.
Start reading at: `form_problem`.
"""

from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from limbeck.likeness import same_answer, same_nesting
from limbeck.recipe.pairs import Screen
from limbeck.records import Pair
from limbeck.screening.words import is_decisive, tokens, words_in_code

MAX_COMPARED_WORDS = 4_000  # between the first and the last difference; aligning takes time quadratic in them


def form_problem(pair: Pair, rules: Screen) -> str | None:
    """Say what is wrong with the two answers as texts, the cheapest test first; None where nothing is."""
    lengths = [len(pair.chosen.strip()), len(pair.rejected.strip())]
    if min(lengths) < rules.min_response_characters:
        return "too short (chosen)" if lengths[0] < rules.min_response_characters else "too short (rejected)"
    if same_answer(pair.chosen, pair.rejected):
        return "equal answers"
    if max(lengths) > rules.max_length_ratio * max(1, min(lengths)):
        return "length ratio"
    if abs(lengths[0] - lengths[1]) > rules.max_length_difference_characters:
        return "length difference"
    likeness_is_meant = pair.problem is not None or pair.source in {"revise", "divergence"}
    if not likeness_is_meant and nearly_equal(pair.chosen, pair.rejected, rules.max_answer_similarity):
        return "nearly equal answers"
    return None


def nearly_equal(first: str, second: str, max_similarity: float) -> bool:
    """Whether more than `max_similarity` of the words is shared, in order, and no other word is decisive.

    The similarity is 2 M / T (Ratcliff and Obershelp, as in difflib): M words matched, of T in both. Code whose lines
    are indented otherwise says something else.
    """
    changes = _changes(tokens(first), tokens(second), max_similarity)
    return changes is not None and same_nesting(first, second) and not _decide(changes, first, second)


class _Change(NamedTuple):
    """What the first text says at its places `here`, the second says at `there`, with other words."""

    here: range
    there: range


def _changes(words: Sequence[str], others: Sequence[str], max_similarity: float) -> list[_Change] | None:
    """What differs; None where no more than `max_similarity` is shared, or aligning the texts would take too long."""
    total = len(words) + len(others)
    if not total or 2 * (Counter(words) & Counter(others)).total() <= max_similarity * total:
        return None
    start = _shared_start(words, others)
    end = _shared_start(words[start:][::-1], others[start:][::-1])
    if max(len(words), len(others)) - start - end > MAX_COMPARED_WORDS:
        return None
    inner = words[start : len(words) - end], others[start : len(others) - end]
    matcher = SequenceMatcher(None, *inner, autojunk=False)
    matched = start + end + sum(block.size for block in matcher.get_matching_blocks())
    if 2 * matched <= max_similarity * total:
        return None
    return [
        _Change(range(start + a, start + b), range(start + c, start + d))
        for tag, a, b, c, d in matcher.get_opcodes()
        if tag != "equal"
    ]


def _decide(changes: Sequence[_Change], first: str, second: str) -> bool:
    """Whether a change may make one text say something else. In code, every word and sign does."""
    code, other_code = words_in_code(first), words_in_code(second)
    if any(not (code.isdisjoint(here) and other_code.isdisjoint(there)) for here, there in changes):
        return True
    words, others = tokens(first), tokens(second)
    return any(_decides(words, others, here, there) for here, there in changes)


def _decides(words: Sequence[str], others: Sequence[str], here: range, there: range) -> bool:
    """Whether a change holds a decisive word. Capitals alone decide nothing: `Sky` for `sky` is no other name."""
    if [words[place].casefold() for place in here] == [others[place].casefold() for place in there]:
        return False
    return any(is_decisive(words, place) for place in here) or any(is_decisive(others, place) for place in there)


def _shared_start(words: Sequence[str], others: Sequence[str]) -> int:
    pairs = zip(words, others, strict=False)
    return next((place for place, (word, other) in enumerate(pairs) if word != other), min(len(words), len(others)))
