"""Rows to files: parquet, or JSON Lines where pyarrow is not installed. Holds a few hundred rows at a time.

The same rows give the same bytes (with one version of pyarrow). Knows nothing of pairs.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from limbeck.stages.export.columns import arrow_schema, json_line

_ROWS_AT_ONCE = 500  # a row group: what is in memory at a time
Add = Callable[[dict[str, Any]], None]


class Library(NamedTuple):
    """The two modules that parquet needs."""

    arrow: Any
    parquet: Any


def parquet_library() -> Library | None:
    """The library pyarrow; None where it is not installed."""
    try:
        return Library(importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet"))
    except ModuleNotFoundError:
        return None


def file_format(has_library: bool | None = None) -> str:
    """The format that rows are written in: how the names of files end. Left out: looks for pyarrow, but does not load
    it.
    """
    there = importlib.util.find_spec("pyarrow") is not None if has_library is None else has_library
    return "parquet" if there else "jsonl"


def file_name(split: str, library: Library | None) -> str:
    """What the hub calls the only file of a split."""
    return f"{split}-00000-of-00001.{file_format(library is not None)}"


@contextmanager
def table(folder: Path, split: str, library: Library | None, *, with_reason: bool = False) -> Iterator[Add]:
    """Open the file of a split in `folder`; what is yielded takes one row at a time."""
    path = folder / file_name(split, library)
    if library is None:
        with path.open("w", encoding="utf-8") as file:
            yield lambda row: _ignore(file.write(json_line(row)))
        return
    schema = arrow_schema(library.arrow, with_reason=with_reason)
    with library.parquet.ParquetWriter(path, schema) as writer:
        waiting: list[dict[str, Any]] = []

        def flush() -> None:
            writer.write_table(library.arrow.Table.from_pylist(waiting, schema=schema))
            waiting.clear()

        def add(row: dict[str, Any]) -> None:
            waiting.append(row)
            if len(waiting) == _ROWS_AT_ONCE:
                flush()

        yield add
        if waiting:
            flush()


def _ignore(_written: int) -> None:
    """A row is taken; how many characters that was is of no interest."""
