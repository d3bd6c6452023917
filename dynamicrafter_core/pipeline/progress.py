"""How far a run has come, how long its stages took, and how much memory they needed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ..devices import PeakMemory, finish

Progress = Callable[[str, int, int], object]  # stage, done, total


class Stages:
    """The stages of one run: `with stages("denoise", steps) as report: ... report(done, steps)`.

    Its beginning and its end are told of without the work's doing.
    """

    def __init__(self, device: torch.device, on_progress: Progress | None = None) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.peak = PeakMemory(device)
        self._on_progress = on_progress

    @contextmanager
    def __call__(self, name: str, total: int = 1) -> Iterator[Callable[[int, int], None]]:
        last = (0, total)

        def report(done: int, total: int) -> None:
            nonlocal last
            last = (done, total)
            if self._on_progress is not None:
                self._on_progress(name, done, total)

        start = time.perf_counter()
        report(0, total)
        yield report
        if last[0] < last[1]:
            report(last[1], last[1])
        finish(self.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self.peak.mark()
