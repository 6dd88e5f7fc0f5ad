"""The machine at hand: which device, which precision, said in one line."""

import ctypes
import gc
import time

import torch

from limbeck.console import say
from limbeck.errors import ModelError, first_line
from limbeck.lm.free_memory import is_out_of_memory
from limbeck.recipe import Model

_PROBE_SECONDS = 0.2
_PROBE_SIZE = 1024
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc, malloc.h


def choose_device(setting: str) -> torch.device:
    """`auto`: CUDA, then Apple's GPU, then the CPU.

    Raises:
        ModelError: where the device that is asked for is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if setting != "auto":
        if not there[setting]:
            raise ModelError(
                f"model.device: there is no {setting!r} device on this machine; `auto` takes what there is"
            )
        return torch.device(setting)
    return torch.device(next((name for name in ("cuda", "mps") if there[name] and _computes(name)), "cpu"))


def _computes(name: str) -> bool:
    """Whether this build of torch has kernels for the device: those for GPUs of before 2018 were given up.

    Raises:
        ModelError: the device is in use; going on without it would turn hours into days.
    """
    try:
        torch.ones(1, device=name).add_(1).item()
        return True
    except RuntimeError as error:
        reason = first_line(error)
        if is_out_of_memory(error) or "busy" in reason:
            raise ModelError(f"the {name} device cannot be used now ({reason}); wait for it, or say model.device = "
                             '"cpu"') from error  # fmt: skip
        say(f"there is a {name} device, and this torch cannot use it ({reason}): going on without it", "yellow")
        return False


def choose_dtype(setting: str, device: torch.device) -> torch.dtype:
    """`auto`: bf16 where its matrix product is measured faster than fp32's, else fp32."""
    if setting != "auto":
        return {"bf16": torch.bfloat16, "fp32": torch.float32}[setting]
    faster = matmul_flops_per_second(torch.bfloat16, device) > matmul_flops_per_second(torch.float32, device)
    return torch.bfloat16 if faster else torch.float32


def matmul_flops_per_second(dtype: torch.dtype, device: torch.device) -> float:
    """Measured rate of a square matrix product, in floating-point operations a second."""
    left = torch.randn(_PROBE_SIZE, _PROBE_SIZE, dtype=torch.float32).to(device=device, dtype=dtype)
    left @ left  # the first call prepares kernels
    _wait(device)
    started, products = time.perf_counter(), 0
    while time.perf_counter() - started < _PROBE_SECONDS:
        left @ left
        _wait(device)
        products += 1
    return 2.0 * _PROBE_SIZE**3 * products / (time.perf_counter() - started)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def on_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy `values` from the CPU to `device` without waiting for the work that a GPU still has to do."""
    if device.type == "cuda":  # only from pinned memory does the copy run beside the host
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def release() -> None:
    """Give memory that a finished stage no longer uses back to the operating system, and to the GPU's pool.

    The C library keeps freed blocks of megabytes for itself; without this a run's memory only ever grows.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, others do without
    if trim is not None:
        trim(0)


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next allocation, instead of handing it back page by page.

    By default glibc maps each block of over 32 MB anew and cuts the top of its heap: a training step touches hundreds
    of thousands of fresh pages. Measured on a virtual machine of two cores, steps of 1,800 tokens: none instead of
    60,000 to 370,000 page faults a step, and 3 to 20 % less time. `release` still gives memory back between stages.
    """
    setting = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, others do without
    if setting is not None:
        setting(_M_MMAP_MAX, 0)
        setting(_M_TRIM_THRESHOLD, 2**31 - 1)


def describe(device: torch.device, dtype: torch.dtype) -> str:
    """One line for the console and the manifest."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{name}{threads}, {'bf16' if dtype == torch.bfloat16 else 'fp32'}"


def place(settings: Model) -> tuple[torch.device, torch.dtype]:
    """Device and dtype for a recipe's `[model]`."""
    device = choose_device(settings.device)
    keep_freed_memory()
    return device, choose_dtype(settings.dtype, device)
