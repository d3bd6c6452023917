"""Attempts to break this project, surface by surface, and a table of what was tried, how often, and what was found.

python -m benchmarks.torture                            every surface for a minute, from seed 0
python -m benchmarks.torture jobs cli --minutes 60      these for an hour each
python -m benchmarks.torture soak --prompts 500         500 prompts in one ComfyUI
python -m benchmarks.torture ray --jobs 60              60 jobs on two nodes of Ray, one of which is lost
python -m benchmarks.torture jobs --seed 4711 --once    one trial again, in this process, with its trace
"""

import argparse
import importlib.util
import itertools
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

from .child import surface_at
from .runner import Found, Tally, drive
from .surface import Room, chance_of

API = "api"
SOAK = "soak"
RAY = "ray"
COMMANDS = ("convert", "save", "batch", "film", "train")
KILLS = {f"kill-{name}": f"kill -9 at a random moment of {name}; the last run is not killed" for name in COMMANDS}
DISKS = {f"disk-{name}": f"{name} on a full or read-only disk, and two at once" for name in COMMANDS}
FUZZERS = {
    "safetensors": "benchmarks.torture.checkpoints:SAFETENSORS",
    "pickle": "benchmarks.torture.checkpoints:PICKLE",
    "pictures": "benchmarks.torture.pictures:PICTURES",
    "settings": "benchmarks.torture.pictures:SETTINGS",
    "videos": "benchmarks.torture.videos:VIDEOS",
    "data": "benchmarks.torture.videos:DATA",
    "cli": "benchmarks.torture.commands:COMMANDS",
    "jobs": "benchmarks.torture.jobs:JOBS",
    "scripts": "benchmarks.torture.scripts:SCRIPTS",
    "words": "benchmarks.torture.words:WORDS",
    "options": "benchmarks.torture.words:OPTIONS",
    "prompts": "benchmarks.torture.words:PROMPTS",
    "weights": "benchmarks.torture.weights:WEIGHTS",
    "recipes": "benchmarks.torture.recipes:RECIPES",
}


@dataclass(frozen=True)
class Row:
    name: str
    what: str
    tally: Tally

    def __str__(self) -> str:
        tally, minutes = self.tally, self.tally.seconds / 60
        counts = (tally.tried, tally.outcomes["result"], tally.outcomes["refused"], len(tally.distinct))
        return f"| {self.name} | {self.what} | {minutes:.1f} | {' | '.join(f'{count:,}' for count in counts)} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*FUZZERS, API, SOAK, RAY, *KILLS, *DISKS]
    parser.add_argument("surfaces", nargs="*", metavar="SURFACE", help=f"any of {', '.join(names)} (default: all)")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each surface (default: 1)")
    parser.add_argument("--kills", type=int, default=20, help="for each command that is killed (default: 20)")
    parser.add_argument("--prompts", type=int, default=40, help="of the soak (default: 40)")
    parser.add_argument("--jobs", type=int, default=20, help="of the batch on Ray (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the first trial; the next has the next (default: 0)")
    parser.add_argument("--once", action="store_true", help="only that trial, in this process, with its trace")
    options = parser.parse_args(arguments)
    if unknown := set(options.surfaces) - set(names):
        parser.error(f"there is no surface {min(unknown)}; the surfaces are {', '.join(names)}")
    if importlib.util.find_spec("ray") is None:
        if RAY in options.surfaces:
            parser.error("Ray is not installed; run 'pip install \"dynamicrafter[ray]\"'")
        names.remove(RAY)
    if options.once:
        if len(options.surfaces) != 1 or options.surfaces[0] not in FUZZERS:
            parser.error(f"--once takes one of {', '.join(FUZZERS)}")
        return once(FUZZERS[options.surfaces[0]], options.seed)
    rows = []
    for name in options.surfaces or names:
        sys.stderr.write(f"{name} ...\n")
        rows.append(attack(name, options))
        sys.stderr.write(f"{rows[-1]}\n")
    sys.stdout.write(table(rows))
    return 1 if any(row.tally.found for row in rows) else 0


def attack(name: str, options: argparse.Namespace) -> Row:
    known: set[str] = set()
    seed, seconds = options.seed, 60 * options.minutes

    def tell(found: Found) -> None:
        kind = found.text.split(":")[0]
        if kind not in known:
            known.add(kind)
            sys.stderr.write(f"  --seed {found.seed}: {found.text[:300]}\n")

    if name in FUZZERS:
        return Row(name, surface_at(FUZZERS[name]).what, drive(FUZZERS[name], itertools.count(seed), seconds, tell))
    if name == API:
        from .api import WHAT, besiege

        return Row(name, WHAT, besiege(seconds, seed, tell))
    if name == SOAK:
        from . import soak

        return Row(name, soak.WHAT, soak.Soak(options.prompts, seed, tell).run(sys.stderr.write))
    if name == RAY:
        from . import cluster

        return Row(name, cluster.WHAT, cluster.lose(options.jobs, seed, tell))
    command = name.split("-")[1]
    if name in KILLS:
        from .kills import kill_often

        return Row(name, KILLS[name], kill_often(command, options.kills, seed, tell))
    from .disk import disturb

    return Row(name, DISKS[name], disturb(command, seconds, seed, tell))


def table(rows: list[Row]) -> str:
    heads = ("surface", "what was tried", "minutes", "trials", "results", "clean errors", "kinds of finding")
    return "\n".join([f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads), *map(str, rows)]) + "\n"


def once(place: str, seed: int) -> int:
    surface = surface_at(place)
    if surface.prepare is not None:
        surface.prepare()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        room = Room(Path(name) / "room")
        room.furnish()
        attempt = surface.make(chance_of(surface.name, seed), room)
        try:
            sys.stdout.write(f"result: {attempt()!r}\n"[:2000])
        except Exception:
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
