"""The cache of log-probabilities: exact values back, never a wrong one, and never the end of a run."""

import hashlib
import multiprocessing
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.lm.logps_cache import FILE_NAME, LogpsCache, PairLogps

finite = st.floats(allow_nan=False, allow_infinity=False)


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def some(*numbers: int) -> dict[bytes, PairLogps]:
    return {key(number): (-float(number) - 0.1, -float(number) / 3) for number in numbers}


def write_many(path: Path, first: int) -> None:
    """Runs in a process of its own: fifty writes, each read back at once."""
    with LogpsCache(path) as cache:
        for number in range(first, first + 50):
            cache.put(some(number))
            assert cache.get([key(number)]) == some(number)
        assert cache.problem is None


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "not yet there" / FILE_NAME


@given(values=st.tuples(finite, finite))
def test_values_come_back_to_the_last_bit(tmp_path_factory: pytest.TempPathFactory, values: PairLogps) -> None:
    path = tmp_path_factory.getbasetemp() / "bits.sqlite"
    wanted = hashlib.sha256(repr(values).encode()).digest()
    with LogpsCache(path) as cache:
        cache.put({wanted: values})
    with LogpsCache(path) as cache:
        assert [value.hex() for value in cache.get([wanted])[wanted]] == [value.hex() for value in values]


def test_only_what_is_known_is_found_and_what_came_first_stays(path: Path) -> None:
    with LogpsCache(path) as cache:
        cache.put(some(1, 2))
        cache.put({key(2): (-9.0, -9.0), **some(3)})
        assert cache.get([key(number) for number in range(5)]) == some(1, 2, 3)


def test_the_oldest_entries_go_when_there_are_too_many(path: Path) -> None:
    with LogpsCache(path, kept_pairs=4) as cache:
        for number in range(7):
            cache.put(some(number))
        assert cache.get([key(number) for number in range(7)]) == some(3, 4, 5, 6)


def test_several_processes_open_and_fill_one_file_at_once(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_many, args=(path, first)) for first in (0, 25, 50, 75)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    with LogpsCache(path) as cache:
        assert cache.get([key(number) for number in range(130)]) == some(*range(125))


def test_a_number_that_changed_on_disk_is_not_believed_but_counted_and_replaced(path: Path) -> None:
    with LogpsCache(path) as cache:
        cache.put(some(1, 2))
    with sqlite3.connect(path) as database:
        (entry,) = database.execute("SELECT entry FROM logps WHERE key = ?", (key(1),)).fetchone()
        flipped = bytes([entry[0] ^ 1, *entry[1:]])
        database.execute("UPDATE logps SET entry = ? WHERE key = ?", (flipped, key(1)))
    database.close()
    with LogpsCache(path) as cache:
        assert cache.get([key(1), key(2)]) == some(2)
        assert (cache.num_damaged, cache.problem) == (1, None)
        cache.put(some(1))
        assert cache.get([key(1), key(2)]) == some(1, 2)


@pytest.mark.parametrize("page", range(5))
def test_noise_in_the_file_costs_entries_but_never_gives_a_wrong_one(path: Path, page: int) -> None:
    with LogpsCache(path) as cache:
        cache.put(some(*range(100)))
    assert path.stat().st_size == 5 * 4096
    with path.open("r+b") as file:
        file.seek(4096 * page)
        file.write(hashlib.shake_256(bytes([page])).digest(4096))
    with LogpsCache(path) as cache:
        found = cache.get([key(number) for number in range(100)])
        cache.put(some(200))
    assert found.items() <= some(*range(100)).items()
    assert len(found) < 100


def no_database(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)


def of_another_version(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 9")
    database.close()


@pytest.mark.parametrize("spoil", [no_database, of_another_version, Path.mkdir])
def test_a_file_that_cannot_be_used_is_said_in_one_sentence_and_left_as_it_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], spoil: object
) -> None:
    path = tmp_path / FILE_NAME
    assert callable(spoil)
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with LogpsCache(path) as cache:
        cache.put(some(1))
        assert cache.get([key(1)]) == {}
        assert cache.problem is not None
    said = capfd.readouterr().err
    assert said.startswith(f"the cache of reference log-probabilities {path} cannot be used ({cache.problem})")
    assert said.count("\n") == 1
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_folder_that_cannot_be_made_is_no_end_either(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with LogpsCache(tmp_path / "file" / FILE_NAME) as cache:
        cache.put(some(1))
        assert cache.get([key(1)]) == {}
        assert cache.problem is not None


def test_a_full_disk_stops_the_writing_and_keeps_what_was_written(path: Path) -> None:
    written = 0
    with LogpsCache(path) as cache:
        cache.put(some(0))
        with files_of_at_most(200_000):
            while cache.problem is None and written < 10_000:
                written += 1
                cache.put(some(written))
    assert cache.problem is not None
    with LogpsCache(path) as cache:
        assert cache.get([key(number) for number in range(written + 1)]) == some(*range(written))
        assert cache.problem is None
