"""Compiled kernels of sampling on a CPU: built on first use by the C++ compiler that is there, kept, loaded.

Without a compiler, on another system or with LIMBECK_KERNELS=off everything runs on torch's own operators; what is
lost is speed, and the console says so once.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from limbeck.console import say
from limbeck.errors import ModelError
from limbeck.lm.pull import cache_folder

TOKENS_A_PAGE = 16  # kLanes of the sources
_SOURCES = Path(__file__).with_name("native")
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-std=c++17", "-shared", "-fPIC")
_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_COMPILE_SECONDS = 120


def _at(tensor: Tensor) -> ctypes.c_void_p:
    if not tensor.is_contiguous():
        raise ValueError("the kernels read contiguous tensors only")
    return ctypes.c_void_p(tensor.data_ptr())


def _at_pages(pages: Tensor) -> ctypes.c_void_p:
    if not pages[0].is_contiguous():
        raise ValueError("the kernels read pages that are contiguous each")
    return ctypes.c_void_p(pages.data_ptr())


def _stride(keys: Tensor, values: Tensor) -> int:
    """Numbers from one page to the next, the same for keys and values."""
    if keys.stride(0) != values.stride(0):
        raise ValueError("pages of keys and of values lie equally far apart")
    return keys.stride(0)


class Kernels:
    """The loaded library. Tensors are contiguous, on the CPU, and all of one dtype, fp32 or bf16.

    Pages of the cache, keys [P, groups, size, 16] and values [P, groups, 16, size], are contiguous each, and may lie
    apart.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def _call(self, name: str, dtype: torch.dtype, *arguments: object) -> None:
        getattr(self._library, f"{name}_{_NAMES[dtype]}")(*arguments)

    def normalise(self, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Root mean square normalisation of the last dimension [..., H] (Zhang and Sennrich 2019)."""
        out = torch.empty_like(states)
        size = states.shape[-1]
        rows = states.numel() // size
        self._call("normalise", states.dtype, _at(states), _at(weight), rows, size, ctypes.c_float(epsilon), _at(out))
        return out

    def gate(self, gates: Tensor, ups: Tensor) -> Tensor:
        """silu(gates) * ups, both [T, I] with I a multiple of 16, written into `gates`."""
        self._call("gate", gates.dtype, _at(gates), _at(ups), ctypes.c_int64(gates.numel()))
        return gates

    def quantise(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [T, K], K a multiple of 16, in two bytes and one scale a row [T] fp32.

        Returns int8 [2 T, K], and states ~ (out[:T] + out[T:] / 254) * scale.
        """
        rows, size = states.shape
        out = torch.empty(2 * rows, size, dtype=torch.int8)
        scales = torch.empty(rows)
        self._call("quantise", states.dtype, _at(states), rows, size, _at(out), _at(scales))
        return out, scales

    def dequantise(
        self, products: Tensor, scales: tuple[Tensor, Tensor], bias: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        """Products [2 T, N] of such rows, times the scales of rows [T] and columns [N], plus `bias` [N]: [T, N]."""
        rows, size = len(products) // 2, products.shape[1]
        out = torch.empty(rows, size, dtype=dtype)
        added = None if bias is None else _at(bias)
        self._call("dequantise", dtype, _at(products), *map(_at, scales), added, rows, size, _at(out))
        return out

    def rotate(self, states: Tensor, cosines: Tensor, sines: Tensor) -> None:
        """Rotate heads [T, heads, size] in place by angles [T, size] (Su et al. 2021)."""
        rows, heads, size = states.shape
        self._call("rotate", states.dtype, _at(states), _at(cosines), _at(sines), rows, heads, size)

    def store(self, keys: Tensor, values: Tensor, places: Tensor, key_pages: Tensor, value_pages: Tensor) -> None:
        """Copy tokens' keys and values [T, groups, size] into pages; `places` [N, 3] int32: token, page, offset."""
        _, groups, size = keys.shape
        pages = (_at_pages(key_pages), _at_pages(value_pages), ctypes.c_int64(_stride(key_pages, value_pages)))
        self._call("store", keys.dtype, _at(keys), _at(values), _at(places), len(places), groups, size, *pages)

    def attend(
        self, queries: Tensor, rows: tuple[Tensor, Tensor], tables: Tensor, pages: tuple[Tensor, Tensor], scaling: float
    ) -> Tensor:
        """Attention of rotated queries [T, heads, size] to the cache, up to their own positions: [T, heads * size].

        `rows`: the sequence of each query, a line of `tables` [S, W], and its position, both [T]; all int32. `pages`:
        keys and values.
        """
        out = torch.empty_like(queries)
        number, heads, size = queries.shape
        shape = (ctypes.c_int32 * 6)(number, heads, pages[0].shape[1], size, tables.shape[1], _stride(*pages))
        tensors = (*map(_at, (queries, *rows, tables)), *map(_at_pages, pages), _at(out))
        self._call("attend", queries.dtype, *tensors, shape, ctypes.c_float(scaling))
        return out.view(number, heads * size)

    def only(self, logits: Tensor, allowed: Tensor) -> Tensor:
        """Logits [R, V] fp32, minus infinity where the bit of `allowed` [R, V / 32] int32 is not set, lowest first."""
        number, vocabulary = logits.shape
        out = torch.empty_like(logits)
        self._library.only(_at(logits), _at(allowed), number, vocabulary, _at(out))
        return out

    def choose(
        self,
        logits: Tensor,
        plain: Tensor,
        uniforms: Sequence[float],
        temperature: float,
        top_k: int,
        top_p: float,
    ) -> tuple[list[int], list[float]]:
        """A token and its log-probability for each row of `logits` [R, V] fp32; log-probabilities are of `plain`."""
        number, vocabulary = logits.shape
        numbers = (ctypes.c_double * number)(*uniforms)
        tokens, logps = (ctypes.c_int32 * number)(), (ctypes.c_float * number)()
        self._library.choose(
            _at(logits),
            _at(plain),
            numbers,
            number,
            vocabulary,
            ctypes.c_float(temperature),
            top_k,
            ctypes.c_double(top_p),
            tokens,
            logps,
        )
        return list(tokens), list(logps)


@functools.cache
def kernels() -> Kernels | None:
    """The compiled kernels; None, in a sentence, where they cannot be had."""
    if os.environ.get("LIMBECK_KERNELS") == "off":
        return None
    compiler = shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        say("sampling runs on torch's operators, slower: there is no C++ compiler (g++ or clang++)", "yellow")
        return None
    try:
        return Kernels(ctypes.CDLL(str(build(compiler, cache_folder() / "kernels"))))
    except (ModelError, OSError, subprocess.SubprocessError) as error:
        words = getattr(error, "stderr", None)
        reason = f"{compiler} failed: {words}" if words else f"{error} (LIMBECK_CACHE names another folder)"
        say(f"sampling runs on torch's operators, slower: {reason.strip()[:300]}", "yellow")
        return None


def build(compiler: str, folder: Path) -> Path:
    """Compile the kernels into `folder`, unless they are there: one file for sources, compiler and processor.

    Raises:
        OSError: where the folder cannot be written.
        subprocess.SubprocessError: where the compiler fails; its words are in `stderr`.
    """
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    sources = sorted(_SOURCES.glob("*.cpp"))
    texts = [path.read_text(encoding="utf-8") for path in (*sources, *sorted(_SOURCES.glob("*.h")))]
    identity = "\0".join([*texts, version, *_FLAGS, _processor()])
    target = folder / f"sampling-{hashlib.sha256(identity.encode()).hexdigest()[:20]}.so"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        built = Path(temporary) / "built.so"
        command = [compiler, *_FLAGS, *map(str, sources), "-o", str(built)]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=_COMPILE_SECONDS)
        built.replace(target)  # whole or not at all, whoever else builds it now
    return target


def _processor() -> str:
    """What the compiled instructions depend on: a home folder may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
