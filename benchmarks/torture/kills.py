"""kill -9 at a random moment, again and again: nothing half-written is ever taken for whole, and what goes on ends as in peace."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from .runner import Found, Tally
from .victims import VICTIMS, Known, Victim, import_all, in_peace, problem, start, visible, wait


def kill_often(name: str, kills: int, seed: int, on_finding: Callable[[Found], object]) -> Tally:
    import_all()
    victim, tally, begun = VICTIMS[name], Tally(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        given, out = Path(folder) / "given", Path(folder) / "out"
        given.mkdir()
        victim.furnish(given)
        known, seconds = in_peace(victim, given, Path(folder) / "peace")
        out.mkdir()
        while tally.tried < kills:
            number = seed + tally.tried
            chance = Random(f"{name}, kill {number}")
            fault = attempt(victim, given, out, known, seconds, chance)
            if fault is None:  # it had ended before the kill
                continue
            tally.outcomes["finding" if fault else "result"] += 1
            if fault:
                tally.found.append(Found(number, fault))
                on_finding(tally.found[-1])
        if fault := at_last(victim, given, out, known):
            tally.found.append(Found(seed + kills, fault))
            on_finding(tally.found[-1])
    tally.seconds = time.monotonic() - begun
    return tally


def attempt(victim: Victim, given: Path, out: Path, known: Known, seconds: list[float], chance: Random) -> str | None:
    """What is wrong after the kill; empty where nothing is; None where the process was faster."""
    way = chance.randrange(len(victim.ways))
    process = start(lambda: victim.ways[way](given, out))
    status = wait(process, chance.uniform(0, seconds[way]))
    if status is None:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        return problem(victim, out, known)
    fault = problem(victim, out, known) or ("" if status == 0 else f"ends with status {status} after a kill")
    if victim.resumes:
        shutil.rmtree(out)
        out.mkdir()
    return fault or None


def at_last(victim: Victim, given: Path, out: Path, known: Known) -> str:
    """Without a kill it ends, and leaves what it leaves in peace."""
    status = wait(start(lambda: victim.ways[0](given, out)))
    if status != 0:
        return f"ends with status {status} after the kills"
    missing = known.keys() - {path.name for path in visible(out)} if len(victim.ways) == 1 else set()
    return f"{min(missing)} is missing after the kills" if missing else problem(victim, out, known)
