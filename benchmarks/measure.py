"""Measuring: medians of interleaved runs, FLOPs counted on meta tensors, and the machine's own ceiling beside them."""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from dynamicrafter_core.devices import arithmetic_units

Run = Callable[[], object]

LONG = 10.0  # seconds; what takes longer is warm for most of them
CEILING_SHAPES = [(2048, 2048, 2048), (4096, 1280, 1280), (4096, 4096, 4096), (16384, 320, 2560), (1024, 1280, 10240)]


@dataclass(frozen=True)
class Row:
    """One measurement: what took how long, and how long the straightforward alternative took in the same run."""

    what: str
    size: str
    seconds: float
    alternative: str = ""
    alternative_seconds: float | None = None
    flops: float | None = None
    ceiling: float | None = None  # FLOP/s

    def cells(self) -> list[str]:
        gain = "" if self.alternative_seconds is None else f"{self.alternative_seconds / self.seconds:.2f} x"
        rate = "" if self.flops is None else f"{self.flops / self.seconds / 1e9:.0f}"
        share = "" if not (self.flops and self.ceiling) else f"{self.flops / self.seconds / self.ceiling:.0%}"
        flops = "" if self.flops is None else f"{self.flops / 1e12:.3f}"
        return [self.what, self.size, f"{self.seconds:.3f}", flops, rate, share, self.alternative, gain]


HEADER = ["what", "size", "seconds", "TFLOP", "GFLOP/s", "of peak", "compared with", "relative time"]


def timed(run: Run) -> float:
    _wait()
    start = time.perf_counter()
    run()
    _wait()
    return time.perf_counter() - start


def medians(runs: list[Run], repeat: int) -> list[float]:
    """Median seconds of each, measured in turns so that a machine that slows down slows all of them.

    The first turn warms up, and counts only where all of them are long.
    """
    first = [timed(run) for run in runs]
    rounds = [first] if min(first) > LONG else []
    rounds += [[timed(run) for run in runs] for _ in range(repeat - len(rounds))]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def beside(run: Run, what: str, alternative: Run, fits: bool, repeat: int) -> tuple[float, str, float | None]:
    """Seconds of `run`, and the alternative's name and seconds; none where the machine has too little memory for it."""
    if not fits:
        return medians([run], repeat)[0], f"{what}: does not fit in memory", None
    ours, theirs = medians([run, alternative], repeat)
    return ours, what, theirs


def count_flops(run: Run) -> float:
    """`run` must work on meta tensors."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def matmul_ceiling(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of the best of several matrix products, the most a model made of them can reach here."""
    best = 0.0
    for m, k, n in CEILING_SHAPES:
        a, b = (torch.randn(shape, dtype=dtype, device=device) for shape in ((m, k), (n, k)))
        times = [timed(lambda a=a, b=b: torch.nn.functional.linear(a, b)) for _ in range(6)]
        best = max(best, 2 * m * k * n / min(times[1:]))
    return best


def machine(device: torch.device) -> str:
    """The machine, named by its parts."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB; torch {torch.__version__}"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    return f"{name}, {torch.get_num_threads()} threads, {' '.join(arithmetic_units())}; torch {torch.__version__}"


def table(rows: list[Row]) -> str:
    cells = [HEADER, ["---"] * len(HEADER), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
