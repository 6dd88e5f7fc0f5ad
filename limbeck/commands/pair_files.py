"""Files of pairs, in every format that limbeck reads, as pairs that say where they come from: a file or a subset.

RewardBench's pair files name a `subset` in each row; limbeck's own pairs name their source.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from limbeck.console import say
from limbeck.errors import InputError, in_words
from limbeck.recipe.corpus import Dataset
from limbeck.records import Pair
from limbeck.stages.corpus.formats import OWN, read_example
from limbeck.stages.corpus.own import own_pair
from limbeck.stages.corpus.sources import Row, Sources
from limbeck.stages.corpus.turns import UnusableRowError


def pairs_in(paths: Sequence[str]) -> list[Pair]:
    """The pairs of all files, folders and hub ids, in their order; rows of no use are left out, counted and told.

    Raises:
        InputError: a source cannot be read, is of no known format, or holds no pairs.
    """
    sources, found = Sources(seed=0), list[Pair]()
    for path in paths:
        dropped: Counter[str] = Counter()
        before = len(found)
        found += _pairs(sources, path, dropped)
        reasons = in_words(dropped)
        if len(found) == before:
            raise InputError(f"none of the rows of {path} can be used ({reasons})")
        if reasons:
            say(f"{path}: {sum(dropped.values())} rows are left out: {reasons}")
    return found


def _pairs(sources: Sources, path: str, dropped: Counter[str]) -> Iterator[Pair]:
    for row in sources.rows(Dataset(path=path)):
        if row.format.gives != "pairs":
            raise InputError(f"{row.place}: its fields ({', '.join(sorted(row.values))}) hold no pair of answers")
        try:
            yield _pair(row)
        except UnusableRowError as reason:
            dropped[str(reason)] += 1
        except InputError as error:
            raise InputError(f"{row.place}: {error}") from error


def _pair(row: Row) -> Pair:
    example = read_example(row.format, row.values)
    if row.format.name == OWN:
        return own_pair(row.id, row.values, example)
    subset = row.values.get("subset")
    return Pair(
        id=row.id,
        prompt=example.prompt,
        source=subset if isinstance(subset, str) and subset else row.source,
        chosen=example.response or "",
        rejected=example.rejected or "",
    )
