"""Sources: the same rows whatever the file's kind, ids that are unique, samples that are uniform, errors by place."""

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import InputError
from limbeck.recipe.corpus import Dataset
from limbeck.stages.corpus.files import file_rows
from limbeck.stages.corpus.hub import hub_rows
from limbeck.stages.corpus.optional import library
from limbeck.stages.corpus.sources import Sources, reservoir

Values = dict[str, Any]
ROWS: list[Values] = [{"prompt": f"What is {number}?", "response": f"Ünit {number}"} for number in range(1, 8)]


def lines(rows: Sequence[Values]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_parquet(path: Path, rows: Sequence[Values]) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(list(rows)), path)


def ids(path: Path, seed: int = 1, **settings: Any) -> list[str]:
    return [row.id for row in Sources(seed).rows(Dataset(path=str(path), **settings))]


KINDS: dict[str, Callable[[Path], object]] = {
    "d.jsonl": lambda path: path.write_bytes(lines(ROWS)),
    "d.json": lambda path: path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8"),
    "lines.json": lambda path: path.write_bytes(lines(ROWS)),
    "marked.jsonl": lambda path: path.write_bytes(b"\xef\xbb\xbf" + lines(ROWS)),
    "d.jsonl.gz": lambda path: path.write_bytes(gzip.compress(lines(ROWS))),
    "d.json.gz": lambda path: path.write_bytes(gzip.compress(json.dumps(ROWS).encode())),
    "d.parquet": lambda path: write_parquet(path, ROWS),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    KINDS[name](tmp_path / name)
    read = list(file_rows(tmp_path / name))
    assert [row.values for row in read] == ROWS
    assert [row.number for row in read] == [1, 2, 3, 4, 5, 6, 7]
    assert ids(tmp_path / name)[:2] == [f"{name.partition('.')[0]}/1", f"{name.partition('.')[0]}/2"]


def test_a_folder_gives_all_its_parquet_files_and_no_hidden_one(tmp_path: Path) -> None:
    write_parquet(tmp_path / "b.parquet", ROWS[:2])
    write_parquet(tmp_path / "a.parquet", ROWS[:1])
    write_parquet(tmp_path / "deep" / "a.parquet", ROWS[:1])
    write_parquet(tmp_path / ".cache" / "c.parquet", ROWS)
    assert ids(tmp_path) == ["a/1", "b/1", "b/2", "a-2/1"]
    assert {row.source for row in Sources(1).rows(Dataset(path=str(tmp_path)))} == {tmp_path.name}


def test_a_folder_laid_out_as_on_the_hub_gives_one_split_of_one_configuration(tmp_path: Path) -> None:
    for config in ("all", "few"):
        for split, count in (("train", 3), ("test", 1)):
            write_parquet(tmp_path / config / f"{split}-00000-of-00001.parquet", ROWS[:count])
    assert ids(tmp_path, config="all", split="test") == ["test-00000-of-00001/1"]
    assert len(ids(tmp_path, config="few")) == 3
    with pytest.raises(InputError, match="holds no split 'dev', but test, train"):
        ids(tmp_path, split="dev")
    with pytest.raises(InputError, match=r"in a folder 'none', no \.parquet and no \.jsonl file"):
        ids(tmp_path, config="none")


def test_a_configuration_that_is_named_like_a_split_is_none(tmp_path: Path) -> None:
    for config in ("dev-mix", "all"):
        write_parquet(tmp_path / config / "0000.parquet", ROWS[:2])
    assert len(ids(tmp_path, config="dev-mix")) == 2
    write_parquet(tmp_path / "old-test" / "train" / "0000.parquet", ROWS[:1])
    assert len(ids(tmp_path, config="old-test")) == 1


def test_a_folder_a_split_gives_that_split_and_files_of_unclear_split_are_refused(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 1)):
        write_parquet(tmp_path / "all" / split / "0000.parquet", ROWS[:count])
    assert len(ids(tmp_path, split="train")) == 3
    assert len(ids(tmp_path, split="test")) == 1
    write_parquet(tmp_path / "mixed" / "test-00000-of-00001.parquet", ROWS)
    write_parquet(tmp_path / "mixed" / "more.parquet", ROWS)
    with pytest.raises(InputError, match=r"more\.parquet, .* belongs to no split"):
        ids(tmp_path / "mixed", split="test")


@pytest.mark.parametrize(
    ("names", "split", "rows"),
    [
        (("train_sft-00000-of-00002-a3ecf92756993583", "test_sft-00000-of-00001-0123456789abcdef"), "train_sft", 1),
        (("train", "test"), "train", 1),
        (("data/train/0000", "data/train/0001", "data/test/0000"), "train", 2),
        (("smol-train", "smol-test"), "train", 1),
        (("train", "train_more", "test"), "train", 2),
        (("train-00000-of-00001", "test"), "test", 1),
        (("train_sft", "test_sft"), "train_sft", 1),
        (("train_sft", "train_gen", "test_sft"), "train", 2),
    ],
)
def test_a_split_is_known_by_shard_file_or_folder(
    tmp_path: Path, names: tuple[str, ...], split: str, rows: int
) -> None:
    for name in names:
        write_parquet(tmp_path / f"{name}.parquet", ROWS[:1])
    assert len(ids(tmp_path, split=split)) == rows


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train_sft-00000-of-00001-a3ecf92756993583", "test_sft-00000-of-00001-a3"), "'dev', but test_sft, train_sft"),
        (("train", "test"), "'dev', but test, train: set `split`"),
        (("data/train/0000", "data/test/0000"), "'dev', but test, train"),
        (("data/test/0000",), "'dev', but test"),
        (("train_dev", "test_dev"), "'dev', but test_dev, train_dev"),
        (("train", "more"), r"more\.parquet, .* belongs to no split"),
    ],
)
def test_a_split_that_is_not_there_never_becomes_the_others(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    for name in names:
        write_parquet(tmp_path / f"{name}.parquet", ROWS[:1])
    with pytest.raises(InputError, match=words):
        ids(tmp_path, split="dev")


def test_two_files_of_one_name_have_different_ids_and_one_file_keeps_its_own(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "d.jsonl").write_bytes(lines(ROWS[:1]))
    sources = Sources(1)
    first, second = (Dataset(path=str(tmp_path / folder / "d.jsonl")) for folder in ("x", "y"))
    found = [row.id for dataset in (first, second, first) for row in sources.rows(dataset)]
    assert found == ["d/1", "d-2/1", "d/1"]
    assert sources.formats == {"d": "prompt and response", "d-2": "prompt and response"}


def test_a_limit_is_a_sample_by_the_seed_of_distinct_rows(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(lines([{"prompt": str(number)} for number in range(200)]))
    sample = ids(tmp_path / "d.jsonl", limit=20)
    assert len(set(sample)) == 20
    assert sample == ids(tmp_path / "d.jsonl", limit=20)
    assert set(sample) != set(ids(tmp_path / "d.jsonl", seed=2, limit=20))
    assert len(ids(tmp_path / "d.jsonl", limit=1000)) == 200


def test_a_reservoir_draws_every_place_equally_often() -> None:
    rng, counts = random.Random(0), Counter[int]()
    for _ in range(4000):
        counts.update(reservoir(range(10), 3, rng))
    # Each place is drawn 4000 * 3/10 = 1200 times; the standard deviation is sqrt(4000 * 0.3 * 0.7) = 29.
    assert all(abs(counts[place] - 1200) < 5 * 29 for place in range(10))


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "torn.jsonl": (lines(ROWS[:2]) + b'{"prompt": ', r"torn\.jsonl, row 3: not valid JSON"),
    "list.jsonl": (b"\n\n3\n", r"list\.jsonl, row 3: expected a JSON object, found int"),
    "torn.json": (b'[{"prompt": "a"},\n', r"torn\.json: not valid JSON .*line 2"),
    "texts.json": (b'["a"]', r"texts\.json, row 1: expected a JSON object, found str"),
    "empty.jsonl": (b"", r"empty\.jsonl holds no rows"),
    "none.json": (b"[]", r"none\.json holds no rows"),
    "latin.jsonl": ('{"prompt": "é"}'.encode("latin-1"), r"latin\.jsonl: not valid UTF-8"),
    "plain.jsonl.gz": (lines(ROWS), r"plain\.jsonl\.gz cannot be read"),
    "cut.jsonl.gz": (gzip.compress(lines(ROWS))[:-20], r"cut\.jsonl\.gz: a damaged or unfinished gzip"),
    "deep.jsonl": (b"[" * 100_000 + b"\n", r"deep\.jsonl: JSON that is nested too deeply"),
    "long.jsonl": (lines(ROWS[:1]) + b'{"a": ' + b"1" * 5000 + b"}\n", r"long\.jsonl, row 2: .*more than 4,300 digits"),
    "long.json": (b'[{"a": ' + b"1" * 5000 + b"}]", r"long\.json: .*more than 4,300 digits"),
    "text.parquet": (b"hello", r"text\.parquet cannot be read as parquet"),
    "table.csv": (b"a,b\n", r"table\.csv is none of the files that can be read here \(\.jsonl\.gz"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_damaged_file_is_one_sentence_that_names_it(tmp_path: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    content, words = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        ids(tmp_path / name)


@pytest.mark.parametrize("path", ["missing.jsonl", "./missing", "/no/such/folder", "~/no such"])
def test_what_looks_like_a_path_is_never_looked_up_on_the_hub(path: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        list(Sources(1).rows(Dataset(path=path)))


def test_the_hub_library_streams_a_split_and_names_what_it_cannot_find(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "train.jsonl").write_bytes(lines(ROWS))  # to `datasets` a folder is as good as the hub
    read = list(hub_rows(Dataset(path=str(tmp_path))))
    assert [(row.number, row.values) for row in read] == list(enumerate(ROWS, 1))
    with pytest.raises(InputError, match="split 'nope' of the hub's data set"):
        list(hub_rows(Dataset(path=str(tmp_path), split="nope")))


def test_a_missing_library_is_named_with_what_to_install() -> None:
    with pytest.raises(InputError, match=r"'limbeck_has_no_such'.*pip install 'limbeck\[hub\]'"):
        library("limbeck_has_no_such.part", "a file")
