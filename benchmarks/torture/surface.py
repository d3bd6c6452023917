"""A surface: one way in from outside, and what makes an input for it from a seed and tries it.

The outcome of a trial must be a result or a refusal (InputError: one plain sentence), within LIMIT seconds. All else is a finding.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

LIMIT = 10.0  # seconds a trial may take


class Finding(Exception):
    """What a trial saw that should not be."""


@dataclass(frozen=True)
class Room:
    """The folder of one trial. Nothing outside `out` may change."""

    root: Path

    @property
    def given(self) -> Path:
        return self.root / "given"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def outside(self) -> Path:
        """Where names with .. and links lead."""
        return self.root / "outside"

    @property
    def victim(self) -> Path:
        return self.outside / "victim.txt"

    def furnish(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        for folder in (self.given, self.out, self.outside):
            folder.mkdir(parents=True)
        self.victim.write_text("not to be touched")


@dataclass(frozen=True)
class Surface:
    name: str
    what: str  # is tried, in words
    make: Callable[[Random, Room], Callable[[], object]]  # lays an input out in the room; what it returns tries that
    prepare: Callable[[], object] | None = None  # once a process, before any trial is timed


def chance_of(name: str, seed: int) -> Random:
    return Random(f"{name}, seed {seed}")
