"""What is trained on: rows of token ids, the same for every contender, made from lengths, a seed and a stream of ids.

Pure: numbers in, numbers out. Knows neither contender.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from math import exp, fsum, log
from statistics import NormalDist, fmean
from typing import NamedTuple

from limbeck import seeds

BASE_PAIRS = 64
# TRL cuts a sequence here unless told otherwise (DPOConfig.max_length); were a pair longer, the two would not train on
# the same tokens.
LONGEST_SEQUENCE = 1024
_DRAWS = 4000


class Column(NamedTuple):
    """Lengths of one part of a pair, in tokens: their mean, and the longest."""

    mean: float
    longest: int


PROMPT, CHOSEN, REJECTED = Column(124, 571), Column(129, 396), Column(125, 483)


class Shape(NamedTuple):
    """Lengths of one pair, in tokens."""

    prompt: int
    chosen: int
    rejected: int


class Row(NamedTuple):
    """One row as token ids: a prompt with one response (SFT) or two (chosen, rejected)."""

    id: str
    prompt: list[int]
    responses: list[list[int]]

    @property
    def num_targets(self) -> int:
        """Response tokens, all of which are predicted."""
        return sum(len(response) for response in self.responses)


def lognormal_lengths(number: int, column: Column) -> list[int]:
    """Quantiles of the log-normal distribution whose mean and maximum over `number` rows are the column's; ascending.

    The i-th of n quantiles is exp(mu + sigma z((i + 1/2) / n)). The maximum gives mu for a sigma; the mean then falls
    as sigma grows, so that bisection finds sigma. Rounding keeps the sum.
    """
    scores = [NormalDist().inv_cdf((i + 0.5) / number) for i in range(number)]

    def lengths(sigma: float) -> list[float]:
        return [column.longest * exp(sigma * (score - scores[-1])) for score in scores]

    low, high = 0.0, 10.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if fmean(lengths(middle)) > column.mean else (low, middle)
    return _rounded(lengths(high), round(column.mean * number))


def _rounded(values: Sequence[float], total: int) -> list[int]:
    """Whole numbers of at least 1 that sum to `total`: those with the largest fractions are rounded up."""
    whole = [max(int(value), 1) for value in values]
    by_fraction = sorted(range(len(values) - 1), key=lambda i: whole[i] - values[i])  # the maximum stays as it is
    whole[-1] = round(values[-1])
    for i in by_fraction[: max(total - sum(whole), 0)]:
        whole[i] += 1
    return whole


def pair_shapes(number: int, seed: int) -> list[Shape]:
    """Lengths of `number` pairs; fewer than 64 are a stratified part of them: a short run is then like a full one."""
    base = max(number, BASE_PAIRS)
    columns = [lognormal_lengths(base, column) for column in (PROMPT, CHOSEN, REJECTED)]
    attempt = 0
    while True:  # the longest prompt rarely meets the longest response
        for place, column in enumerate(columns):
            seeds.rng(seed, "pair lengths", place, attempt).shuffle(column)
        shapes = [Shape(*lengths) for lengths in zip(*columns, strict=True)]
        if all(shape.prompt + max(shape.chosen, shape.rejected) <= LONGEST_SEQUENCE for shape in shapes):
            break
        attempt += 1
    return [shapes[i] for i in stratified(shapes, number, seed)]


def stratified(shapes: Sequence[Shape], number: int, seed: int) -> list[int]:
    """Choose `number` of the shapes: one of each stratum by total length, with column means nearest to those of all.

    Of many draws by the seed, the one whose worst column mean is least off; places in their own order.
    """
    if number >= len(shapes):
        return list(range(len(shapes)))
    by_length = sorted(range(len(shapes)), key=lambda i: sum(shapes[i]))
    edges = [round(k * len(shapes) / number) for k in range(number + 1)]
    strata = [by_length[a:b] for a, b in itertools.pairwise(edges)]
    means = column_means(shapes)
    draw = seeds.rng(seed, "stratified", number)

    def error(chosen: list[int]) -> float:
        found = column_means([shapes[i] for i in chosen])
        return max(abs(log(a / b)) for a, b in zip(found, means, strict=True))

    draws = [[draw.choice(stratum) for stratum in strata] for _ in range(_DRAWS)]
    best: list[int] = min(draws, key=error)
    return sorted(best)


def column_means(shapes: Sequence[Shape]) -> tuple[float, ...]:
    """Mean length of prompt, chosen and rejected."""
    return tuple(fsum(column) / len(shapes) for column in zip(*shapes, strict=True))


def mean_shape() -> Shape:
    """A pair of mean lengths."""
    return Shape(*(round(column.mean) for column in (PROMPT, CHOSEN, REJECTED)))


def warm_up_shapes(number: int) -> list[Shape]:
    """Pairs of mean lengths for a step that warms up; the last has a prompt twice as long.

    With two lengths, `torch.compile` meets a changed one, and compiles again for any length, before timing begins.
    """
    shape = mean_shape()
    return [shape] * (number - 1) + [shape._replace(prompt=2 * shape.prompt)]


def pair_rows(shapes: Sequence[Shape], ids: Iterator[int], name: str) -> list[Row]:
    """Rows of these lengths, filled from a stream of token ids."""

    def take(length: int) -> list[int]:
        return [next(ids) for _ in range(length)]

    return [Row(f"{name}/{n}", take(s.prompt), [take(s.chosen), take(s.rejected)]) for n, s in enumerate(shapes)]


def random_ids(vocabulary: int, special: Sequence[int], seed: int) -> Iterator[int]:
    """Ordinary token ids, uniformly, without end."""
    ordinary = [i for i in range(vocabulary) if i not in set(special)]
    draw: random.Random = seeds.rng(seed, "token ids")
    while True:
        yield draw.choice(ordinary)
