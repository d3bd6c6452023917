"""Where a model runs, in which precision, and how much room that takes."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import repository
import torch
from micro import ANIMATE, Spy, picture

from dynamicrafter_core import devices
from dynamicrafter_core.devices import (
    PeakMemory,
    free_memory,
    pick_device,
    pick_dtype,
    pick_training_dtype,
)
from dynamicrafter_core.pipeline.decoding import frames_at_once
from dynamicrafter_core.pipeline.pipeline import Pipeline

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_auto_takes_the_fastest_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device() == CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device() == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device() == CUDA
    assert pick_device("cpu") == CPU


@pytest.mark.parametrize(
    ("dtype", "device", "stored", "picked"),
    [
        ("auto", CPU, torch.float16, torch.float32),
        ("auto", CUDA, torch.float32, torch.float16),
        ("auto", CUDA, torch.float16, torch.float16),
        ("auto", CUDA, torch.bfloat16, torch.bfloat16),
        ("bf16", CPU, torch.float32, torch.bfloat16),
        (torch.float32, CUDA, torch.float16, torch.float32),
    ],
)
def test_precision_follows_the_device_and_the_file(
    dtype: str | torch.dtype, device: torch.device, stored: torch.dtype, picked: torch.dtype
) -> None:
    assert pick_dtype(dtype, device, stored) == picked


@pytest.mark.parametrize(
    ("units", "slow"), [(["avx2"], True), (["avx2", "avx512f"], True), (["avx512f", "avx512_bf16"], False), ([], False)]
)
def test_bf16_on_a_cpu_that_only_stores_it_is_warned_of(
    units: list[str], slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamicrafter_core.devices.arithmetic_units", lambda: units)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert pick_dtype("bf16", CPU, torch.float32) == torch.bfloat16
        pick_dtype("bf16", CUDA, torch.float32)
        pick_dtype("fp32", CPU, torch.bfloat16)
        assert pick_dtype("auto", CPU, torch.bfloat16) == torch.float32
    assert [str(warning.message)[:32] for warning in caught] == ["This CPU has no bf16 arithmetic "] * slow


@pytest.mark.slow
@pytest.mark.parametrize(("free", "keep"), [(0, False), (None, False), (10**12, True)])
def test_parts_are_kept_where_there_is_room(
    model_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, free: int | None, keep: bool
) -> None:
    monkeypatch.setattr("dynamicrafter_core.pipeline.residency.free_memory", lambda device: free)
    assert Pipeline(model_of(ANIMATE), device="cpu").parts.keep == keep
    assert not Pipeline(model_of(ANIMATE), device="cpu", keep_loaded=False).parts.keep


@pytest.mark.slow
def test_released_parts_are_loaded_again(model_of: Callable[[str], Path], spy: Spy) -> None:
    pipeline = Pipeline(model_of(ANIMATE), keep_loaded=True)
    before = pipeline.animate(picture(), steps=1).frames
    assert pipeline.parts._kept
    pipeline.release()
    assert not pipeline.parts._kept
    assert torch.equal(pipeline.animate(picture(), steps=1).frames, before)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process reset its peak")
def test_peak_memory_sees_what_is_gone_again() -> None:
    peak = PeakMemory(CPU)
    before = peak.mark()
    ones = torch.ones(100_000_000)  # 400 MB
    del ones
    assert peak.mark() > before + 200e6


MEMORY_REUSED = """
import resource, torch
from pathlib import Path
from dynamicrafter_core.devices import reused_memory

def pages_filled(bytes=200_000_000, times=10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(bytes // 4)  # freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))

usual = pages_filled()
with reused_memory(torch.device("cpu")):
    pages_filled()
    reused = pages_filled()
    held = resident()
left = resident()
# A block as large as all that was held, which no gap in the heap can serve, comes from the system both times.
print(usual, reused, pages_filled(held, 2) * resource.getpagesize() / held, held, left)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux's C library that is asked")
def test_freed_memory_is_used_again_and_given_back_in_the_end() -> None:
    # In a process of its own: what earlier tests left on the heap would serve some of the blocks.
    printed = subprocess.check_output([sys.executable, "-c", MEMORY_REUSED], cwd=repository.ROOT, text=True)
    usual, reused, times_filled, held, left = map(float, printed.split())
    assert reused < usual / 5
    assert times_filled > 1.9
    assert left < held - 100e6


def test_the_cpu_tells_its_free_memory_and_decodes_frame_by_frame() -> None:
    free = free_memory(CPU)
    assert free is None or 10**6 < free < 10**14
    assert frames_at_once(torch.zeros(16, 4, 8, 8), 8) == 1


def test_frames_are_decoded_in_as_large_portions_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    latents = torch.zeros(16, 4, 40, 64, device="meta", dtype=torch.float16)
    rooms = {10**8: 1, 3 * 10**9: 4, 10**12: 16}
    for free, frames in rooms.items():
        monkeypatch.setattr("dynamicrafter_core.pipeline.decoding.free_memory", lambda device, free=free: free)
        assert frames_at_once(latents, 8) == frames


@pytest.mark.parametrize(("units", "picked"), [(["avx2"], torch.float32), (["avx512f", "avx512_bf16"], torch.bfloat16)])
def test_training_picks_bf16_only_where_the_cpu_calculates_in_it(
    monkeypatch: pytest.MonkeyPatch, units: list[str], picked: torch.dtype
) -> None:
    monkeypatch.setattr(devices, "arithmetic_units", lambda: units)
    assert pick_training_dtype("auto", CPU) == picked
    assert pick_training_dtype("fp32", CPU) == torch.float32
