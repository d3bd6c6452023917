"""Files of jobs: JSON and CSV that are wrong in their structure, their keys and their values, made into clips by the batch's own command."""

import csv
import io
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

from dynamicrafter_core.batch.jobs import KEYS
from dynamicrafter_core.cli.main import main
from dynamicrafter_core.errors import InputError

from .commands import RIGHT, at_terminal, furnish, prepare
from .mutation import altered, damaged, name, number, text, value
from .surface import Finding, Room, Surface

KINDS = ("animate", "fly", "generate")


def right_job(chance: Random) -> dict[str, Any]:
    job: dict[str, Any] = {
        "image": chance.choice(("a.png", "b.jpg")),
        "steps": 1,
        "size": "64x64",
        "frames": chance.choice((1, 2, 4)),
        "seed": 1,
    }
    for key in chance.sample(KEYS, chance.choice((0, 0, 1, 3))):
        if key in RIGHT and key not in ("image", "last", "model", "size"):
            right = chance.choice(RIGHT[key]).removeprefix("../given/")
            job[key] = [right] if key in ("extra", "then") else right
    if chance.random() < 0.3:
        job["format"] = chance.choice(("gif", "png", "mp4"))
    return job


def wrong_job(chance: Random) -> Any:
    job = right_job(chance)
    for _ in range(chance.choice((1, 1, 2, 4))):
        match chance.randrange(6):
            case 0:
                job[chance.choice(KEYS)] = value(chance)
            case 1:
                job[chance.choice(KEYS)] = chance.choice((name, text, number))(chance)
            case 2:
                job["name"] = name(chance)
            case 3:
                job[
                    chance.choice(("image", "last", "mask", "original", "depth", "guide", "initial_noise", "model"))
                ] = name(chance)
            case 4:
                job["prompt"] = text(chance, 2000)
            case 5:
                return altered(job, chance)
    return job


def written(chance: Random) -> tuple[str, bytes]:
    """A file's suffix, and what is in it."""
    jobs = [
        right_job(chance) if chance.random() < 0.3 else wrong_job(chance) for _ in range(chance.choice((1, 1, 2, 3)))
    ]
    if chance.random() < 0.3:
        rows = [job for job in jobs if isinstance(job, dict)]
        keys = list(dict.fromkeys(str(key) for job in rows for key in job))
        file = io.StringIO()
        table = csv.writer(file, quoting=chance.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))
        table.writerows([keys, *([str(job.get(key, ""))[:140_000] for key in keys] for job in rows)])
        return ".csv", file.getvalue().encode("utf-8", "replace")
    lines = [json.dumps(job, ensure_ascii=chance.random() < 0.8) for job in jobs]
    if chance.random() < 0.3:
        lines.insert(0, json.dumps({"defaults": chance.choice((wrong_job(chance), value(chance)))}))
    if chance.random() < 0.1:
        lines.append("[" * 100_000)
    return ".jsonl", "\n".join(lines).encode("utf-8", "replace")


MADE = re.compile(
    r": [\d.]+ s  \(\d+ done, "
)  # the line of a job that was made, which may stand before that of a failure


def make_jobs(chance: Random, room: Room) -> Callable[[], object]:
    furnish(room)
    suffix, content = written(chance)
    path = room.given / f"listed{suffix}"
    path.write_bytes(damaged(content, chance) if chance.random() < 0.15 else content)
    words = ["batch", f"../given/{path.name}", "-o", chance.choice((".", "folder")), "--device", "cpu"]
    if chance.random() < 0.2:
        (room.out / ".lock").unlink()
    elif chance.random() < 0.9:
        words[3] = "folder"
    if chance.random() < 0.3:
        words.append("--check")

    def attempt() -> None:
        status, said = at_terminal(lambda: main(words), room)
        if "Traceback" in said or status not in (0, 1, 2):
            raise Finding(f"ends with status {status} and {said[-200:]!r}")
        for line in said.splitlines():
            # What a job's own refusal begins with is where it stands; the name of an error is a fault of ours.
            if kind := next((word for word in line.split() if word.endswith(("Error:", "Warning:", "Exception:"))), ""):
                raise Finding(f"a job ends in {kind} {line[-200:]!r}")
        if status == 2:
            raise InputError(said.strip().splitlines()[-1])
        if status == 1:
            raise InputError(next(line for line in said.splitlines() if line.strip() and not MADE.search(line)))

    return attempt


JOBS = Surface(
    "jobs",
    "job files, JSON and CSV: wrong keys, values, names, prompts and structure; symlinks in the output folder",
    make_jobs,
    prepare,
)
