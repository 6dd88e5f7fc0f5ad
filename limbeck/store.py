"""Files of a run: records in, records out, manifests, digests. Every write is atomic or resumable.

The ground floor: no torch, no network. A reader never sees a half-written file: whole files are written beside their
place and renamed; streams are appended line by line and a torn last line is cut off when they are opened again.
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from limbeck.errors import DiskFullError, InputError
from limbeck.records import Record

AnyRecord = TypeVar("AnyRecord", bound=Record)
AnyModel = TypeVar("AnyModel", bound=BaseModel)
_CHUNK_BYTES = 1 << 20
_UNFINISHED = ".unfinished"


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space left" into one sentence that names the place.

    Raises:
        DiskFullError: when the operating system reports a full disk or an exhausted quota.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) or not _disk_is_full(error):
            raise
        raise DiskFullError(
            f"the disk that holds {path} is full; free some space and run the same command again: "
            "what was finished is kept"
        ) from error


def _disk_is_full(error: BaseException | None) -> bool:
    # A library that writes by itself raises its own error: torch's has the system's as context, safetensors' quotes it.
    full = (errno.ENOSPC, errno.EDQUOT)
    while error is not None:
        if isinstance(error, OSError) and error.errno in full:
            return True
        if any(os.strerror(number) in str(error) for number in full):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file path beside `path`; on success it is flushed to disk and renamed to `path`.

    Raises:
        InputError: where something lies at `path` that is no file, such as a device, which would be replaced by one.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file, and would be replaced by one; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    temporary.touch(exist_ok=False)  # with the mode that the umask gives; mkstemp would make it private
    mode = _mode(temporary)
    try:
        with disk_errors(path):
            yield temporary
            _flush(temporary)
            temporary.chmod(mode)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it takes the place of `path`, whole.

    All in it has the mode that the umask gives: safetensors writes files that nobody else can read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    temporary.mkdir()
    mode = _mode(temporary)
    try:
        with disk_errors(path):
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    file.chmod(mode & 0o666)
                    _flush(file)
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_unfinished(path: Path) -> bool:
    """Whether `path` is a temporary of `atomic_path` or `atomic_folder`; left behind only by a killed process."""
    return path.name.startswith(".") and path.name.endswith(_UNFINISHED)


def _beside(path: Path) -> Path:
    return path.parent / f".{path.name}.{secrets.token_hex(4)}{_UNFINISHED}"


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write `value` to `path` atomically, as indented JSON with NaN refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that `write_json` wrote.

    Raises:
        InputError: where it is missing or damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: not valid JSON") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged: expected a JSON object")
    return value


def read_record(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """Read a file that is one record.

    Raises:
        InputError: where it is missing or damaged, with the first field that is wrong.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"{path} is damaged: {first_problem(error)}") from error


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write one JSON line a record, atomically. Returns the number of lines."""
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(record.model_dump_json() + "\n")
            count += 1
    return count


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for every non-empty line of a JSON Lines file; editors' byte order mark is no text.

    Raises:
        InputError: naming file and line, where the file is missing or a line is not a JSON object.
    """
    try:
        file = path.open(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                value = json.loads(line.rstrip("\n"))
                if not isinstance(value, dict):
                    raise InputError(f"{path}, line {number}: expected a JSON object, found {type(value).__name__}")
                yield number, value
        except UnicodeDecodeError as error:
            raise InputError(f"{path}, line {number + 1}: not valid UTF-8 text") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: {json_problem(error)}") from error


def json_problem(error: ValueError | RecursionError) -> str:
    """What Python's JSON reader raised, in words."""
    if isinstance(error, json.JSONDecodeError):
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        return f"not valid JSON ({error.msg} at {line}column {error.colno})"
    if isinstance(error, RecursionError):
        return "JSON that is nested too deeply"
    return f"a number of more than {sys.get_int_max_str_digits():,} digits"  # the only other ValueError there is


def read_records(path: Path, kind: type[AnyRecord]) -> list[AnyRecord]:
    """Read a file that `write_records` or `RecordStream` wrote.

    Raises:
        InputError: naming file, line and field, where a line is not a `kind`, or holds a text that no file can hold.
    """
    return list(each_record(path, kind))


def each_record(path: Path, kind: type[AnyRecord]) -> Iterator[AnyRecord]:
    """Do what `read_records` does one record at a time, for files that need not be in memory whole."""
    for number, value in read_json_lines(path):
        try:
            record = storable(kind.model_validate(value))
        except ValidationError as error:
            raise InputError(f"{path}, line {number}: {first_problem(error)}") from error
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        yield record


def storable(record: AnyModel) -> AnyModel:
    """The record itself, where a file can hold it.

    Raises:
        InputError: a text in it holds half a character, as JSON can spell one.
    """
    try:
        record.model_dump_json()
    except ValueError as error:  # pydantic's own error is one
        raise InputError("a text holds half of a surrogate pair, which is no character") from error
    return record


def first_problem(error: ValidationError) -> str:
    """The first of pydantic's complaints as `field: what is wrong`."""
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"]) or "the whole"
    return f"{where}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


class RecordStream:
    """An append-only file of records that survives a kill: what was written stays, a torn last line is cut off.

    Use as a context manager. `done` holds the records that an interrupted run had already written.
    """

    def __init__(self, path: Path, kind: type[Record]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        self.path = path
        self.done: list[Any] = read_records(path, kind) if path.exists() else []
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: Record) -> None:
        """Write one line and hand it to the operating system, so that a killed process loses nothing."""
        with disk_errors(self.path):
            self._file.write(record.model_dump_json() + "\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with disk_errors(self.path):  # a line that could not be written is tried again here
            self._file.close()


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)


def digest_json(value: object) -> str:
    """SHA-256 of a value's canonical JSON: keys sorted, no spaces; pydantic models by their JSON form."""

    def plain(item: object) -> object:
        if isinstance(item, BaseModel):
            return item.model_dump(mode="json")
        raise TypeError(f"{type(item).__name__} has no canonical JSON form")

    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=plain)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_path(path: Path) -> str:
    """SHA-256 of a file's bytes, or of a folder's relative names and files' digests; hidden files do not count.

    Raises:
        InputError: where nothing lies at `path`.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not hidden(file, path))
        return digest_json([[file.relative_to(path).as_posix(), digest_path(file)] for file in files])
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    state = path.stat()
    return _digest_file(path, (state.st_ino, state.st_size, state.st_mtime_ns))


@functools.cache
def _digest_file(path: Path, _state: tuple[int, int, int]) -> str:
    # Remembered within one process, for a file that did not change meanwhile: models are hashed once, not once a stage.
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            total.update(chunk)
    return total.hexdigest()


def hidden(file: Path, root: Path) -> bool:
    """Whether a file below `root`, or a folder between them, has a name that begins with a dot."""
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def refuse_repeated(ids: Sequence[str], what: str) -> None:
    """See that rows can be told apart by their ids.

    Raises:
        InputError: naming the first id that two rows have.
    """
    seen: set[str] = set()
    for id_ in ids:
        if id_ in seen:
            raise InputError(f"two {what} rows have the id {id_!r}; ids must be distinct, also across files")
        seen.add(id_)
