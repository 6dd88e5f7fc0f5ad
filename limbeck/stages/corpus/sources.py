"""Where rows come from: a data set of the recipe to rows with an id, a place and a format, sampled where it says so.

Knows no format by name and nothing of what the rows are for.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

from limbeck import seeds
from limbeck.console import say
from limbeck.errors import InputError
from limbeck.recipe.corpus import Dataset
from limbeck.stages.corpus.files import SUFFIXES, NumberedRow, file_rows, stem
from limbeck.stages.corpus.formats import Format, detect
from limbeck.stages.corpus.hub import hub_rows
from limbeck.store import hidden

DETECTION_ROWS = 5
_HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?")  # how the hub names a split's files; once with a hash
_NO_LETTERS_AROUND = r"(?i:(?<![^\W\d_]){}(?![^\W\d_]))"
_SPLIT = re.compile(_NO_LETTERS_AROUND.format("(?:train|test|validation|valid|val|dev|eval)"))
Item = TypeVar("Item")


class Row(NamedTuple):
    """A raw row: `source` is the file, folder or hub data set it comes from, `place` is what an error calls it."""

    id: str
    source: str
    place: str
    format: Format
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Part:
    """One file, or one hub data set: `stem` is what its ids should begin with, `identity` tells it from others.

    `folder`: the name of the data set where it is a folder of files.
    """

    stem: str
    identity: str
    rows: Callable[[], Iterator[NumberedRow]]
    folder: str | None = None


class Sources:
    """Reads data sets. Two sources never share a name, and a source that is read twice keeps its name and its ids."""

    def __init__(self, seed: int) -> None:
        self.formats: dict[str, str] = {}
        self._seed = seed
        self._names: dict[str, str] = {}

    def rows(self, dataset: Dataset) -> Iterable[Row]:
        """Return the rows of `dataset`, all or `limit` of them drawn by the seed.

        The draw is a reservoir over every row, on the hub too: exactly uniform whatever the order of the source, at
        the price of reading it whole once. A `buffered` sample of a hub's data set reads little more than it takes,
        and is as mixed as the source is within 10,000 rows. Rows that prove unusable later are not replaced.

        Raises:
            InputError: the source is missing, empty, unreadable or of no known format.
        """
        purpose = ("corpus", "sample", dataset.path, dataset.config or "", dataset.split)
        files = _local_parts(dataset)
        buffered = files is None and dataset.sample == "buffered"
        parts = files or [_hub_part(dataset, seeds.derive(self._seed, *purpose) if buffered else None)]
        rows = chain.from_iterable(map(self._part_rows, parts))
        if dataset.limit is None or buffered:
            return rows
        return reservoir(rows, dataset.limit, seeds.rng(self._seed, *purpose))

    def _part_rows(self, part: _Part) -> Iterator[Row]:
        rows = part.rows()
        first = list(islice(rows, DETECTION_ROWS))
        if not first:
            raise InputError(f"{part.identity} holds no rows")
        found = detect([row.values for row in first], part.identity)
        name = self._name(part)
        self.formats[name] = found.name
        for number, values in chain(first, rows):
            yield Row(f"{name}/{number}", part.folder or name, f"{part.identity}, row {number}", found, values)

    def _name(self, part: _Part) -> str:
        if part.identity not in self._names:
            name, number = part.stem, 1
            while name in self._names.values():
                number += 1
                name = f"{part.stem}-{number}"
            self._names[part.identity] = name
        return self._names[part.identity]


def reservoir(rows: Iterable[Item], size: int, rng: Random) -> list[Item]:
    """Draw `size` rows uniformly in one pass (Vitter 1985, algorithm R); all of them where there are no more."""
    kept: list[Item] = []
    for place, row in enumerate(rows):
        if place < size:
            kept.append(row)
        elif (drawn := rng.randrange(place + 1)) < size:
            kept[drawn] = row
    return kept


def see_there(dataset: Dataset) -> None:
    """See that a data set is here, or is named like one of the hub.

    Raises:
        InputError: it is neither.
    """
    path = Path(dataset.path).expanduser()
    if not path.exists() and (stem(path) is not None or not _HUB_ID.fullmatch(dataset.path)):
        raise InputError(f"{path} does not exist")


def _local_parts(dataset: Dataset) -> list[_Part] | None:
    """The files of a data set on this machine; None where its path can be a hub id only."""
    path = Path(dataset.path).expanduser()
    if path.is_dir():
        return [_file_part(file, path.resolve().name) for file in _folder_files(path, dataset)]
    if path.is_file() and stem(path) is None:
        raise InputError(f"{path} is none of the files that can be read here ({', '.join(SUFFIXES)})")
    if path.is_file():
        return [_file_part(path)]
    see_there(dataset)
    return None


def _hub_part(dataset: Dataset, shuffled_by: int | None) -> _Part:
    taken = "every row"
    if dataset.limit is not None:
        exact = f"{dataset.limit:,} rows drawn uniformly, for which the whole split is read once"
        taken = exact if shuffled_by is None else f"{dataset.limit:,} rows through a shuffled buffer"
    say(f"  corpus: streaming {dataset.path} from the Hugging Face hub: {taken}")
    identity = ":".join(filter(None, (dataset.path, dataset.config, dataset.split)))
    return _Part(dataset.path, identity, lambda: hub_rows(dataset, shuffled_by))


def _file_part(path: Path, folder: str | None = None) -> _Part:
    return _Part(stem(path) or path.name, str(path), lambda: file_rows(path), folder)


def _folder_files(folder: Path, dataset: Dataset) -> list[Path]:
    """The parquet files of a folder, else its JSON Lines, in order; of `config` and `split` where the folder is laid
    out as on the hub.
    """
    tables, lines = (
        sorted(file for file in folder.rglob(f"*.{ending}") if not hidden(file, folder))
        for ending in ("parquet", "jsonl")
    )
    files = tables or lines
    if dataset.config is not None:
        files = [file for file in files if dataset.config in file.relative_to(folder).parts[:-1]]
    if not files:
        inside = f", in a folder {dataset.config!r}," if dataset.config else ""
        raise InputError(f"{folder} holds{inside} no .parquet and no .jsonl file")
    files = [file for file in files if dataset.split in file.relative_to(folder).parts[:-1]] or files
    names = {file: name for file in files if (name := _split_of(file, folder, dataset))}
    if not names:
        return files
    unclear = [file for file in files if file not in names]
    if unclear:
        raise InputError(f"{unclear[0]}, unlike other files of its folder, belongs to no split: move it elsewhere")
    chosen = [file for file, name in names.items() if name == dataset.split]
    if not chosen:
        splits = ", ".join(sorted(set(names.values())))
        raise InputError(f"{folder} holds no split {dataset.split!r}, but {splits}: set `split` to one of them")
    return chosen


def _split_of(file: Path, folder: Path, dataset: Dataset) -> str | None:
    """The split a file is of: by its name as a shard, by a folder, else by its own name; None where none tells."""
    if match := _SHARD.fullmatch(file.stem):
        return match[1]
    asked, folders = dataset.split, file.relative_to(folder).parts[:-1]
    if asked in folders:
        return asked
    for part in (*(name for name in folders if name != dataset.config), file.stem):
        rest, found = re.subn(_NO_LETTERS_AROUND.format(re.escape(asked)), " ", part)
        if _SPLIT.search(rest):  # `test_sft` is not of the split `sft`
            return part
        if found:
            return asked
    return None
