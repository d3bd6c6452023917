"""Where and in which precision a model runs, how much room there is, and how much was needed."""

import ctypes
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .errors import InputError

# Of glibc's malloc.h: what it may be told about large blocks, and where it comes to by itself once some have been freed.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_USUAL = {_TRIM_THRESHOLD: 64 * 2**20, _MMAP_THRESHOLD: 32 * 2**20, _MMAP_MAX: 65536}

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device of that name, if this machine has it; "auto": CUDA before MPS before the CPU."""
    present = _present_devices()
    if str(device) == "auto":
        return torch.device(present[0])
    try:
        picked = torch.device(device)
    except RuntimeError:
        picked = None
    if picked is None or picked.type not in present or (picked.index or 0) >= _count(picked.type):
        raise InputError(
            f"device {str(device)!r} is not available on this machine; give one of auto, {', '.join(present)}."
        )
    return picked


def pick_dtype(dtype: str | torch.dtype, device: torch.device, stored: torch.dtype) -> torch.dtype:
    """The precision of weights and activations; latents stay float32 whatever it is.

    "auto" is float32 on the CPU. Elsewhere it is the file's own half precision, or else fp16, in which the released
    models have always been run.
    """
    if isinstance(dtype, torch.dtype):
        picked = dtype if dtype in DTYPES.values() else None
    elif dtype == "auto":
        if device.type == "cpu":
            return torch.float32
        return stored if stored in (torch.float16, torch.bfloat16) else torch.float16
    else:
        picked = DTYPES.get(dtype)
    if picked is None:
        raise InputError(f"dtype {str(dtype)!r} is not one a model can run in; give auto, {', '.join(DTYPES)}.")
    warn_of_slow_bf16(picked, device)
    return picked


def pick_training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """`auto`: bf16 where the device calculates in it, for the trainer's copies of the weights are fp32 in any case."""
    if precision == "auto":
        return torch.bfloat16 if computes_in_bf16(device) else torch.float32
    warn_of_slow_bf16(DTYPES[precision], device)
    return DTYPES[precision]


def warn_of_slow_bf16(dtype: torch.dtype, device: torch.device) -> None:
    if dtype is torch.bfloat16 and not computes_in_bf16(device):
        warnings.warn(
            "This CPU has no bf16 arithmetic and converts every number back and forth, which takes many times as long as "
            "fp32: choose fp32, unless memory is too small for it.",
            stacklevel=3,
        )


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the device calculates in bf16 and does not merely store it; assumed where it cannot be known."""
    units = arithmetic_units()
    return device.type != "cpu" or not units or any("bf16" in unit for unit in units)


def arithmetic_units() -> list[str]:
    """The vector units of this CPU that matter here, by Linux's names."""
    cpuinfo = Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16") if unit in words]


def free_memory(device: torch.device) -> int | None:
    """Bytes that can be allocated; None where it cannot be known."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    try:
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None


def release_memory(device: torch.device) -> None:
    """Give back what deleted tensors held, so that the next stage, or another program, can have it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


@contextmanager
def reused_memory(device: torch.device) -> Iterator[None]:
    """Meanwhile, a CPU's freed tensors make room for the next ones.

    glibc hands large blocks back at once and gets them anew, page by page and cleared, for every large layer.
    """
    libc = _glibc() if device.type == "cpu" else None
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        for option, value in _USUAL.items():
            libc.mallopt(option, value)
        libc.malloc_trim(0)


def finish(device: torch.device) -> None:
    """Wait for the work handed to the device, so that a time measured now is true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class PeakMemory:
    """The most memory in use from here on: what CUDA allocated, what MPS holds at the marks, on a CPU the process's."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.highest = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu" and sys.platform == "linux":
            _reset_rss_peak()
        self.mark()

    def mark(self) -> int:
        if self.device.type == "cuda":
            now = torch.cuda.max_memory_allocated(self.device)
        elif self.device.type == "mps":
            now = torch.mps.driver_allocated_memory()
        else:
            now = _rss_peak()
        self.highest = max(self.highest, now)
        return self.highest


def _rss_peak() -> int:
    if sys.platform == "linux":
        with open("/proc/self/status") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:")), 0)
    if os.name != "posix":
        return 0
    import resource

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def _reset_rss_peak() -> None:
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:  # a sandbox may forbid it: the peak is then the process's, from its start
        return


def _glibc() -> Any:
    """Linux's usual C library, which is in every process; None where there is another, or its user has told it what to do."""
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_")) for name in os.environ):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def _present_devices() -> list[str]:
    present = ["cuda"] if torch.cuda.is_available() else []
    return [*present, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def _count(kind: str) -> int:
    return torch.cuda.device_count() if kind == "cuda" else 1
