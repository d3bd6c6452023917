"""Drives the child process of a surface through its seeds, and counts: a child that hangs or dies is a finding, and is replaced."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from .surface import LIMIT

ROOT = Path(__file__).parents[2]
START = 180.0  # seconds for a child to import everything, on a busy machine


@dataclass(frozen=True)
class Found:
    seed: int
    text: str


@dataclass
class Tally:
    outcomes: Counter[str] = field(default_factory=Counter)
    found: list[Found] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tried(self) -> int:
        return self.outcomes.total()

    @property
    def distinct(self) -> list[Found]:
        """The first of each kind; the part after the colon is of the one input."""
        return list({found.text.split(":")[0]: found for found in reversed(self.found)}.values())[::-1]


def drive(
    place: str, seeds: Iterable[int], seconds: float, on_finding: Callable[[Found], object] = lambda found: None
) -> Tally:
    """The surface at `place`, tried with each of `seeds` until the time is up."""
    tally, child, begun = Tally(), Child(place), time.monotonic()
    try:
        for seed in seeds:
            if time.monotonic() >= begun + seconds:
                break
            answer = child.attempt(seed)
            if answer is None:
                text = child.last_words()
                child.close()
                child = Child(place)
                if text.startswith("hangs") and (answer := child.attempt(seed)) is None:
                    text = child.last_words()  # a busy machine is not to blame twice
                    child.close()
                    child = Child(place)
            outcome, text = ("finding", text) if answer is None else (answer["outcome"], answer["text"])
            tally.outcomes[outcome] += 1
            if outcome == "finding":
                tally.found.append(Found(seed, text))
                on_finding(tally.found[-1])
    finally:
        child.close()
    tally.seconds = time.monotonic() - begun
    return tally


class Child:
    def __init__(self, place: str) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the child)
        self.folder = tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True)  # the child is killed
        command = [sys.executable, "-B", "-m", "benchmarks.torture.child", place, self.folder.name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=ROOT
        )
        self.answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.hung = False
        if self._next(START) is None:
            raise RuntimeError(f"The child for {place} does not start: {self._tail()}")

    def attempt(self, seed: int) -> dict[str, Any] | None:
        """None where it hangs or dies over it."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{seed}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        before = self._state()
        answer = self._next(LIMIT)
        while self.hung and self._starves(before):
            self.hung = False
            answer = self._next(LIMIT)
        return answer

    def _state(self) -> tuple[str, float]:
        """Whether it runs, sleeps or waits, and the seconds of a processor that it has had; only Linux tells."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            return "", 0.0

    def _starves(self, before: tuple[str, float]) -> bool:
        """It would run, but a busy machine has not let it, for as long as a trial may take."""
        state, seconds = self._state()
        return state == "R" and seconds - before[1] < LIMIT

    def last_words(self) -> str:
        if self.hung:
            return f"hangs for more than {LIMIT:.0f} s{self._where()}"
        status = self.process.wait()
        return f"ends the process with status {status}{self._where()}: {self._tail()}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()
        self.folder.cleanup()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(json.loads(line))
        self.answers.put(None)

    def _next(self, seconds: float) -> dict[str, Any] | None:
        try:
            return self.answers.get(timeout=seconds)
        except queue.Empty:
            self.hung = True
            return None

    def _tail(self) -> str:
        self.errors.seek(0)
        return " / ".join(self.errors.read().decode(errors="replace").split("\n")[-6:])[-300:]

    def _where(self) -> str:
        """The innermost place of this project in the trace that Python left."""
        self.errors.seek(0)
        trace = self.errors.read().decode(errors="replace")
        inner = next((line for line in trace.splitlines() if "dynamicrafter_core" in line and "File" in line), "")
        return f" in {inner.split('/')[-1].strip()}".replace('"', "") if inner else ""
