"""Files of a run: whole or not at all, streams that survive a kill, errors that name file and line."""

import errno
import json
import math
import os
import stat
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file

from limbeck.errors import DiskFullError, InputError
from limbeck.records import Metric, Reply
from limbeck.store import (
    RecordStream,
    atomic_folder,
    atomic_path,
    digest_json,
    digest_path,
    disk_errors,
    read_records,
    write_json,
    write_records,
    write_text,
)

FULL = Path("/dev/full")
needs_full_device = pytest.mark.skipif(not FULL.is_char_device(), reason="no /dev/full on this system")


class SomeError(Exception):
    pass


def replies(*numbers: int) -> list[Reply]:
    return [Reply(prompt_id=f"p/{n}", text=f"text\n{n} \u2028 é", finish_reason="stop", num_tokens=n) for n in numbers]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})
    with pytest.raises(SomeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise SomeError
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"new": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert json.loads(path.read_text()) == {"old": 1}
    assert names(tmp_path) == ["file.json"]


def test_a_folder_that_fails_leaves_the_old_one_and_no_litter(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with atomic_folder(folder) as temporary:
        (temporary / "old").write_text("1")
    with pytest.raises(SomeError), atomic_folder(folder) as temporary:
        (temporary / "new").write_text("2")
        raise SomeError
    assert names(tmp_path) == ["model"]
    assert names(folder) == ["old"]


def test_a_new_folder_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / name).write_text("")
    assert names(tmp_path / "model") == ["new"]


def test_files_of_a_run_can_be_read_by_others(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "x")
    with atomic_folder(tmp_path / "folder"):
        pass
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o755


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0, 0o666, 0o777)])
def test_what_is_written_has_the_mode_that_the_umask_gives_also_where_a_library_made_the_file_private(
    umask: int, file: int, folder: int, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "file", "x")
        with atomic_folder(tmp_path / "model") as temporary:
            save_file({"weight": torch.zeros(2)}, temporary / "model.safetensors")
            (temporary / "deeper").mkdir()
            (temporary / "deeper" / "private").touch(0o600)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    of_files = dict.fromkeys(("file", "model.safetensors", "private"), file)
    assert modes == {**of_files, "model": folder, "deeper": folder}


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "replies.jsonl"
    assert write_records(path, replies(1, 2, 3)) == 3
    assert read_records(path, Reply) == replies(1, 2, 3)
    assert len(path.read_bytes().splitlines()) == 3


def test_a_stream_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    with RecordStream(path, Reply) as stream:
        assert stream.done == []
        stream.append(replies(1)[0])
        assert read_records(path, Reply) == replies(1)  # handed over at once: a kill loses nothing
    with RecordStream(path, Reply) as stream:
        assert stream.done == replies(1)
        stream.append(replies(2)[0])
    assert read_records(path, Reply) == replies(1, 2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 400))
def test_a_stream_torn_anywhere_keeps_its_whole_lines(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "replies.jsonl"
    write_records(path, replies(1, 2, 3))
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    with RecordStream(path, Reply) as stream:
        assert stream.done == replies(1, 2, 3)[:kept]
        stream.append(replies(9)[0])
    assert read_records(path, Reply) == [*replies(1, 2, 3)[:kept], *replies(9)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"prompt_id": "a"', r"line 2: not valid JSON \(Expecting ',' delimiter at column \d+\)"),
        (b"[1, 2]", "line 2: expected a JSON object, found list"),
        (b'{"prompt_id": "a"}', "line 2: text: field required"),
        (b'{"prompt_id": "a", "text": "b", "finish_reason": "tired", "num_tokens": 1}', "line 2: finish_reason: input"),
        (b'{"prompt_id": "a", "text": "b", "finish_reason": "stop", "num_tokens": 1, "extra": 1}', "line 2: extra: "),
        (b'{"prompt_id": "\xff"}', "not valid UTF-8 text"),
        (b'{"num_tokens": ' + b"1" * 5000 + b"}", "line 2: a number of more than 4,300 digits"),
        (b"[" * 100_000, "line 2: JSON that is nested too deeply"),
        (
            b'{"prompt_id": "a", "text": "four \\ud83d", "finish_reason": "stop", "num_tokens": 1}',
            "line 2: a text holds half of a surrogate pair",
        ),
    ],
)
def test_a_malformed_line_is_named_by_file_and_line(tmp_path: Path, line: bytes, problem: str) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_bytes(replies(1)[0].model_dump_json().encode() + b"\n" + line + b"\n")
    with pytest.raises(InputError, match=problem) as raised:
        read_records(path, Reply)
    assert str(raised.value).startswith(str(path))


def test_a_missing_file_is_an_input_error_and_empty_lines_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_records(tmp_path / "none.jsonl", Reply)
    (tmp_path / "blank.jsonl").write_text("\n  \n")
    assert read_records(tmp_path / "blank.jsonl", Reply) == []


def test_a_metric_that_is_not_finite_is_read_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with RecordStream(path, Metric) as stream:
        stream.append(Metric(step=1, split="train", values={"loss": math.nan, "margin": -math.inf}))
    (metric,) = read_records(path, Metric)
    assert math.isnan(metric.values["loss"]) and metric.values["margin"] == -math.inf


@needs_full_device
def test_a_full_disk_is_one_sentence_from_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with (
        pytest.raises(DiskFullError, match=r"the disk that holds .*metrics\.jsonl is full; free some space"),
        RecordStream(path, Metric) as stream,
    ):
        stream.append(Metric(step=1, split="train", values={}))
        with FULL.open("wb") as full:
            os.dup2(full.fileno(), stream._file.fileno())  # from here on the device is full
        stream.append(Metric(step=2, split="train", values={}))
    assert [metric.step for metric in read_records(path, Metric)] == [1]


@needs_full_device
def test_a_full_disk_is_recognised_behind_torch(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError), disk_errors(tmp_path), FULL.open("wb") as full:
        torch.save(torch.zeros(100_000), full)


def test_a_full_disk_is_recognised_behind_safetensors_and_as_a_quota(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError), disk_errors(tmp_path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(DiskFullError), atomic_path(tmp_path / "file"):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "denied"), SomeError("no"), ValueError("space")])
def test_other_errors_pass_a_disk_check_as_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as raised, disk_errors(tmp_path):
        raise error
    assert raised.value is error


def test_a_digest_follows_content_and_names_and_nothing_else(tmp_path: Path) -> None:
    def tree(name: str, files: dict[str, str]) -> str:
        for file, content in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(content)
        return digest_path(tmp_path / name)

    first = tree("a", {"x": "1", "sub/y": "2"})
    assert tree("b", {"sub/y": "2", "x": "1"}) == first
    assert tree("c", {"x": "1", "sub/y": "3"}) != first
    assert tree("d", {"x": "1", "y": "2"}) != first
    assert tree("e", {"x": "2", "sub/y": "1"}) != first
    assert tree("f", {"x": "1", "sub/y": "2", ".hidden": "9", ".cache/z": "9"}) == first


def test_a_digest_notices_a_changed_file_within_one_process(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "one")
    before = digest_path(path)
    assert digest_path(path) == before
    path.write_text("one and more")
    assert digest_path(path) != before
    write_text(path, "one")
    assert digest_path(path) == before


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert digest_path(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(InputError, match="does not exist"):
        digest_path(tmp_path / "none")


def test_a_json_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest_json({"a": 1, "b": [1, 2]}) == digest_json({"b": [1, 2], "a": 1})
    assert digest_json({"a": [1, 2]}) != digest_json({"a": [2, 1]})
    assert digest_json(replies(1)[0]) == digest_json(replies(1)[0].model_dump())
    with pytest.raises(TypeError, match="object has no canonical JSON form"):
        digest_json({"a": object()})


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is no file, and would be replaced by one"):
        write_text(tmp_path / "pipe", "x")
    assert not (tmp_path / "pipe").is_file()
