"""Texts as words and sparse counts: what diversity, coverage and the shortcut test look at.

A word is a run of letters and digits, case folded; every other sign and every line break is a word of its own, since
lists, headings and exclamation marks are as much the surface of a reply as its words. Scripts that set no spaces
(Chinese, Japanese, Thai) count character by character. Refuses to know what the texts are.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

FloatArray = npt.NDArray[np.float64]
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]|\n")


class Counts(NamedTuple):
    """How often each text has each n-gram: `matrix` is CSR, [texts, grams]; `grams` names the columns."""

    matrix: Any
    grams: tuple[str, ...]


def words_of(text: str) -> list[str]:
    """The words, signs and line breaks of a text, in order."""
    return _WORD.findall(text.strip().casefold())


def count_grams(texts: Sequence[Sequence[str]], longest: int = 1, least_texts: int = 1) -> Counts:
    """Count every run of 1 to `longest` words, of those that occur in at least `least_texts` texts.

    Columns stand in the order of first appearance, so the same texts give the same matrix.
    """
    counted = [Counter(_grams(words, longest)) for words in texts]
    in_texts = Counter(chain.from_iterable(counted))
    columns = {gram: place for place, gram in enumerate(g for g, number in in_texts.items() if number >= least_texts)}
    rows = [[(columns[gram], number) for gram, number in counts.items() if gram in columns] for counts in counted]
    starts = np.cumsum([0, *map(len, rows)])
    flat = list(chain.from_iterable(rows))
    values = np.array([number for _, number in flat], dtype=np.float64)
    places = np.array([place for place, _ in flat], dtype=np.int64)
    matrix = sparse.csr_matrix((values, places, starts), shape=(len(texts), len(columns)))
    matrix.sort_indices()
    return Counts(matrix, tuple(columns))


def _grams(words: Sequence[str], longest: int) -> list[str]:
    return [" ".join(words[at : at + n]) for n in range(1, longest + 1) for at in range(len(words) - n + 1)]


def unit_rows(matrix: Any) -> Any:
    """Scale every row, dense or sparse, to Euclidean length 1; a row of zeros stays one."""
    squares = matrix.multiply(matrix).sum(axis=1) if sparse.issparse(matrix) else (np.asarray(matrix) ** 2).sum(axis=1)
    lengths = np.sqrt(np.asarray(squares, dtype=np.float64)).reshape(-1)
    factors = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return sparse.diags(factors) @ matrix if sparse.issparse(matrix) else np.asarray(matrix) * factors[:, None]
