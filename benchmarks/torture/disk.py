"""A disk that is full, a folder that is read-only, a file replaced while it is read, two processes on one output."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from .runner import Found, Tally
from .victims import VICTIMS, Known, Victim, import_all, in_peace, problem, start, visible, wait

SIZE = 64 * 2**20  # bytes of the small disk


def disturb(name: str, seconds: float, seed: int, on_finding: Callable[[Found], object]) -> Tally:
    """`name` of a command, whose output is on a small disk; each trial fills it to another degree, or starts two at once."""
    import_all()
    victim, tally, begun = VICTIMS[name], Tally(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder, small_disk(Path(folder) / "disk") as disk:
        given = Path(folder) / "given"
        given.mkdir()
        victim.furnish(given)
        known, _ = in_peace(victim, given, Path(folder) / "peace")
        needed = sum(file.stat().st_size for file in (Path(folder) / "peace").rglob("*") if file.is_file())
        while time.monotonic() < begun + seconds:
            number = seed + tally.tried
            chance = Random(f"{name}, disk {number}")
            kind = chance.choice((full, full, full, twice) + ((read_only,) if os.path.ismount(disk) else ()))
            out = disk / "out"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            outcome, text = kind(victim, given, out, known, needed, chance)
            tally.outcomes[outcome] += 1
            if outcome == "finding":
                tally.found.append(Found(number, f"{kind.__name__.replace('_', ' ')}: {text}"))
                on_finding(tally.found[-1])
    tally.seconds = time.monotonic() - begun
    return tally


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system in memory, where this process may mount one; else a plain folder, on which nothing is ever full."""
    folder.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], capture_output=True).returncode
        == 0
    )
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], capture_output=True)


Outcome = tuple[str, str]


def judged(victim: Victim, out: Path, known: Known, status: int | None, others: tuple[int, ...] = ()) -> Outcome:
    """Done, or refused with nothing half-made left behind."""
    if fault := problem(victim, out, known):
        return "finding", fault
    if left := [path.name for path in out.iterdir() if path.name.endswith(".part")]:
        return "finding", f"{left[0]} is left behind"
    if status in (0, *others):
        return "result", ""
    return ("refused", "") if status in (1, 2, 3) else ("finding", f"ends with status {status}")


def full(victim: Victim, given: Path, out: Path, known: Known, needed: int, chance: Random) -> Outcome:
    ballast = out.parent / "ballast"
    free = shutil.disk_usage(out).free
    room = min(chance.choice((0, 4096, chance.randrange(needed), chance.randrange(2 * needed))), free)
    if os.path.ismount(out.parent):
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - room))
    try:
        way = chance.choice(victim.ways)
        return judged(victim, out, known, wait(start(lambda: way(given, out))))
    finally:
        ballast.unlink(missing_ok=True)


def read_only(victim: Victim, given: Path, out: Path, known: Known, needed: int, chance: Random) -> Outcome:
    subprocess.run(["mount", "-o", "remount,ro", out.parent], check=True)
    try:
        status = wait(start(lambda: chance.choice(victim.ways)(given, out)))
    finally:
        subprocess.run(["mount", "-o", "remount,rw", out.parent], check=True)
    if status == 0:
        return "finding", "nothing was written, and it says that all is done"
    return judged(victim, out, known, status)


def twice(victim: Victim, given: Path, out: Path, known: Known, needed: int, chance: Random) -> Outcome:
    """Two at once: both write, one after the other, or one is refused; what stands there is whole."""
    processes = []
    for _ in range(2):
        way = chance.choice(victim.ways)
        processes.append(start(lambda way=way: way(given, out)))  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.3))
    statuses = [wait(process) for process in processes]
    if 0 not in statuses:
        return "finding", f"both fail, with {statuses}"
    if missing := sorted(known.keys() - {path.name for path in visible(out)}) if len(victim.ways) == 1 else []:
        return "finding", f"{missing[0]} is missing"
    worst = max(statuses, key=lambda status: 0 if status == 0 else 1 if status == 2 else 2)
    return judged(victim, out, known, worst)
