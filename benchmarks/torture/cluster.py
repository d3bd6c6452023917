"""A batch on a Ray cluster of two real nodes, while a worker is killed and a node is stopped: no clip is lost, and none is there twice."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from .runner import ROOT, Found, Tally

WHAT = "a batch on two Ray nodes; one worker is killed after a quarter, one node after half"
PATIENCE = 1800.0  # seconds for the batch
KEPT = 4  # clips that are made here too, to compare


def lose(jobs: int, seed: int, on_finding: Callable[[Found], object]) -> Tally:
    """`jobs` good ones, and a bad one for each twenty."""
    sys.path.append(str(ROOT / "tools"))
    import ray_nodes

    tally, begun = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        given, out = Path(folder) / "jobs.jsonl", Path(folder) / "out"
        good, bad = write_jobs(given, jobs, seed)
        with ray_nodes.two_nodes(Path(folder) / "ray") as (address, head, second):
            faults = disturb(given, out, address, head, second, (len(good), bool(bad)))
            faults += wrong_report(out, good, bad)
            before = written(out)
            status = start(given, out, "--ray", address).wait(PATIENCE)
            if status != bool(bad):
                faults.append(f"the second run ends with status {status}")
            if written(out) != before:
                faults.append("the second run makes finished clips again")
        faults += others(given, out, Path(folder) / "here")
    tally.outcomes["result"] = len(good) - len(faults)
    tally.outcomes["refused"] = len(bad)
    for fault in faults:
        tally.outcomes["finding"] += 1
        tally.found.append(Found(seed, fault))
        on_finding(tally.found[-1])
    tally.seconds = time.monotonic() - begun
    return tally


def write_jobs(path: Path, count: int, seed: int) -> tuple[list[str], list[str]]:
    """The names of the good and of the bad ones."""
    from PIL import Image

    Image.radial_gradient("L").convert("RGB").save(path.with_name("a.png"))
    jobs = [{"image": "a.png", "steps": 4, "seed": seed + number, "name": f"n{number}"} for number in range(count)]
    bad = [{"image": "gone.png", "name": f"bad{number}"} for number in range(count // 20)]
    for number, job in enumerate(bad):
        jobs.insert(20 * number + 5, job)
    path.write_text("".join(f"{json.dumps(job)}\n" for job in jobs))
    return [f"n{number}" for number in range(count)], [str(job["name"]) for job in bad]


def start(given: Path, out: Path, *words: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "dynamicrafter_core", "batch", str(given), "-o", str(out), "--quiet", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def disturb(given: Path, out: Path, address: str, head: object, second: object, expected: tuple[int, int]) -> list[str]:
    """What went wrong; `expected` are the clips and the exit status."""
    import ray_nodes

    jobs, right = expected
    process = start(given, out, "--ray", address)
    await_clips(process, out, jobs // 4)
    if not (found := ray_nodes.workers(head)):
        return ["there is no worker on the first node"]
    os.kill(found[0], signal.SIGKILL)
    await_clips(process, out, jobs // 2)
    ray_nodes.end(second)
    if process.poll() is not None or len(list(out.glob("*.mp4"))) >= jobs:
        return ["all was done before the node was stopped"]
    status = process.wait(PATIENCE)
    return [] if status == right else [f"the batch ends with status {status}"]


def await_clips(process: "subprocess.Popen[bytes]", out: Path, count: int) -> None:
    until = time.monotonic() + PATIENCE
    while process.poll() is None and len(list(out.glob("*.mp4"))) < count and time.monotonic() < until:
        time.sleep(0.05)


def wrong_report(out: Path, good: list[str], bad: list[str]) -> list[str]:
    """What the two reports say and should not, in words."""
    entries = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    wanted = {**dict.fromkeys(good, "done"), **dict.fromkeys(bad, "failed")}
    faults = []
    if Counter(entry["name"] for entry in entries) != Counter(list(wanted)):
        faults.append("results.jsonl does not have each job once")
    if {entry["name"]: entry["state"] for entry in entries} != wanted:
        faults.append("results.jsonl has another state for some job")
    page = (out / "report.html").read_text()
    if f"{len(good)} clips" not in page or (bad and f"{len(bad)} failed" not in page):
        faults.append("report.html has other sums")
    if Counter(re.findall(r'<video src="([^"]+)"', page)) != Counter(f"{name}.mp4" for name in good):
        faults.append("report.html does not show each clip once")
    if sorted(path.name for path in out.iterdir()) != sorted(
        [*(f"{name}.mp4" for name in good), "report.html", "results.jsonl"]
    ):
        faults.append("there is another file in the output folder")
    return faults


def written(out: Path) -> dict[str, tuple[int, str]]:
    return {
        path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in out.glob("*.mp4")
    }


def others(given: Path, out: Path, here: Path) -> list[str]:
    """Clips that are not those that this process makes alone."""
    lines = [line for line in given.read_text().splitlines() if "gone" not in line]
    few = given.with_name("few.jsonl")
    few.write_text("\n".join(lines[:: max(1, len(lines) // KEPT)]))
    start(few, here).wait(PATIENCE)
    made = sorted(here.glob("*.mp4"))
    unlike = [path.name for path in made if path.read_bytes() != (out / path.name).read_bytes()]
    return [f"{name} is not what one process makes" for name in unlike] if made else ["nothing is made without Ray"]
