"""Faults put where torture must find them: a surface for each kind, of whose trials a third goes wrong."""

import contextlib
import ctypes
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.torture import canary
from benchmarks.torture.surface import Finding, Room, Surface
from benchmarks.torture.victims import Victim
from dynamicrafter_core.errors import InputError


def outcome_of(chance: Random) -> str:
    return chance.choice(("finding", "refused", "result"))


def _planted(fault: Callable[[Room], object]) -> Surface:
    def make(chance: Random, room: Room) -> Callable[[], object]:
        return {"finding": lambda: fault(room), "refused": _refused, "result": lambda: "fine"}[outcome_of(chance)]

    return Surface("planted", "a planted fault", make)


def _refused() -> None:
    raise InputError("the number is 3; give another.")


def _silently(act: Callable[[Room], Any]) -> Callable[[Room], object]:
    """As code does that makes a sentence of any error."""

    def fault(room: Room) -> None:
        try:
            act(room)
        except Exception as error:
            raise InputError("the file is damaged.") from error

    return fault


def _raise(error: BaseException) -> None:
    raise error


CRASH = _planted(lambda room: ctypes.string_at(0))
HANG = _planted(lambda room: time.sleep(60))
ERROR = _planted(lambda room: {}["absent"])
WRONG = _planted(lambda room: _raise(Finding("the result is wrong")))
NO_SENTENCE = _planted(lambda room: _raise(InputError("nope")))
WRITE = _planted(_silently(lambda room: (room.given / "../outside/new.txt").write_text("new")))
NATIVE_WRITE = _planted(lambda room: _without_events(room))
LINKED_WRITE = _planted(_silently(lambda room: _through_a_link(room)))
PROCESS = _planted(_silently(lambda room: os.system("true")))
CODE = _planted(_silently(lambda room: canary.sing("planted")))
MEMORY = _planted(lambda room: bytearray(2**33))


HARMLESS = _planted(_silently(lambda room: _probe(room)))


def _probe(room: Room) -> None:
    """Asks whether files could be made there, and makes none: what the rules must let pass."""
    with contextlib.suppress(NotADirectoryError):
        (room.victim / "below-a-file").mkdir()
    with tempfile.TemporaryFile(dir=room.given):
        pass


def _without_events(room: Room) -> None:
    """As a library in C writes: Python hears nothing."""
    libc = ctypes.CDLL(None)
    number = libc.open(os.fsencode(room.victim), os.O_WRONLY | os.O_TRUNC)
    libc.close(number)


def _through_a_link(room: Room) -> None:
    (room.out / "link").symlink_to(room.victim)
    (room.out / "link").write_text("over it")


def _write_in_place(given: Path, out: Path) -> int:
    """What stands under the file's own name is half of it, most of the time."""
    with (out / "model.bin").open("wb") as file:
        for number in range(20):
            file.write(bytes([number]) * 1000)
            file.flush()
            time.sleep(0.05)
    return 0


def _write_and_fail(given: Path, out: Path) -> int:
    (out / ".model.part").write_bytes(b"half")
    return 2


HALF_WRITTEN = Victim("half", lambda given: None, (_write_in_place,))
LEAVES_BEHIND = Victim("leaves", lambda given: None, (_write_and_fail,))
