"""Local files to rows: JSON, JSON Lines (either gzipped) and parquet. Knows nothing of what the rows mean.

A row's number counts from 1; in JSON Lines it is the line, so that an editor finds it.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from limbeck.errors import InputError
from limbeck.stages.corpus.optional import library
from limbeck.store import json_problem

SUFFIXES = (".jsonl.gz", ".json.gz", ".jsonl", ".json", ".parquet")
_BATCH_ROWS = 1024


class NumberedRow(NamedTuple):
    """One row of a file and its number."""

    number: int
    values: dict[str, Any]


def stem(path: Path) -> str | None:
    """The name of a data file without its ending; None where it is no file that can be read here."""
    for suffix in SUFFIXES:
        if path.name.casefold().endswith(suffix):
            return path.name[: -len(suffix)]
    return None


def file_rows(path: Path) -> Iterator[NumberedRow]:
    """Yield the rows of a file, lazily where its format allows (one JSON array is read whole).

    Raises:
        InputError: the file cannot be read, is not what its ending says, or holds something else than objects.
    """
    if path.name.casefold().endswith(".parquet"):
        yield from _parquet_rows(path)
        return
    with _errors_named(path), _open_text(path) as file:
        head = file.readline()
        while head and not head.strip():
            head = file.readline()
        file.seek(0)
        yield from _array_rows(path, file) if head.lstrip().startswith("[") else _line_rows(path, file)


def _open_text(path: Path) -> IO[str]:
    # utf-8-sig: editors on Windows put a mark before the first row
    if path.name.casefold().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def _array_rows(path: Path, file: IO[str]) -> Iterator[NumberedRow]:
    try:
        values = json.load(file)
    except UnicodeDecodeError:
        raise  # a ValueError too, and named above
    except ValueError as error:
        raise InputError(f"{path}: {json_problem(error)}") from error
    for number, value in enumerate(values, 1):
        yield _row(path, number, value)


def _line_rows(path: Path, file: IO[str]) -> Iterator[NumberedRow]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.rstrip("\n"))
        except ValueError as error:
            raise InputError(f"{path}, row {number}: {json_problem(error)}") from error
        yield _row(path, number, value)


def _row(path: Path, number: int, value: object) -> NumberedRow:
    if not isinstance(value, dict):
        raise InputError(f"{path}, row {number}: expected a JSON object, found {type(value).__name__}")
    return NumberedRow(number, value)


def _parquet_rows(path: Path) -> Iterator[NumberedRow]:
    arrow, parquet = library("pyarrow", str(path)), library("pyarrow.parquet", str(path))
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield NumberedRow(number, values)
    except (arrow.ArrowException, OSError, ValueError, ArithmeticError, LookupError) as error:
        raise InputError(f"{path} cannot be read as parquet: {error}") from error


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Turn what reading a text file can raise into one sentence that names it."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not valid UTF-8 text") from error
    except RecursionError as error:
        raise InputError(f"{path}: {json_problem(error)}") from error
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path}: a damaged or unfinished gzip file") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
