"""A batch against the ways without it, and a batch that is killed again and again.

python -m benchmarks.batch                     seconds per clip: batch, warm Python loop, shell loop
python -m benchmarks.batch --kills 20          200 jobs, ten of them bad, killed 20 times: are the files those of an undisturbed run?
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dynamicrafter_core import Pipeline, render

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--jobs", type=int, help="(default: 12, and 200 with --kills)")
parser.add_argument("--kills", type=int, default=0, help="(default: none)")
parser.add_argument("--steps", type=int, default=4, help="of denoising (default: 4)")
parser.add_argument(
    "--repeat", type=int, default=3, help="runs of each way, in turns; the median is reported (default: 3)"
)


def main() -> None:
    arguments = parser.parse_args()
    count = arguments.jobs or (200 if arguments.kills else 12)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = write_jobs(folder, count, arguments.steps, bad=count // 20 if arguments.kills else 0)
        if arguments.kills:
            survive(folder, jobs, arguments.kills)
        else:
            compare(folder, jobs, arguments.repeat)


def write_jobs(folder: Path, count: int, steps: int, bad: int) -> list[dict]:
    """Pictures of smooth colours at a photo's size, and the file that lists them."""
    import numpy as np
    from PIL import Image

    generator, jobs = np.random.default_rng(0), []
    for number in range(4):
        coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize((1600, 1200), Image.Resampling.BICUBIC).save(folder / f"p{number}.jpg")
    for number in range(count):
        job = {"image": str(folder / f"p{number % 4}.jpg"), "prompt": "zoom in", "seed": number, "steps": steps}
        jobs.append({**job, "image": "gone.jpg"} if bad and number % (count // bad) == 3 else job)
    (folder / "jobs.jsonl").write_text("".join(f"{json.dumps(job)}\n" for job in jobs))
    return jobs


def compare(folder: Path, jobs: list[dict], repeat: int) -> None:
    ways = {"batch": by_batch, "warm Python loop": by_loop, "shell loop": by_shell}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeat):
        for name, way in ways.items():
            begun = time.perf_counter()
            way(folder / f"{turn}-{name.replace(' ', '-')}", jobs)
            seconds[name].append((time.perf_counter() - begun) / len(jobs))
    medians = {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
    for name, value in medians.items():
        sys.stdout.write(
            f"{name:<22}{value:6.2f} s per clip, {3600 / value:6.0f} clips per hour  {value / medians['batch']:5.2f} x the batch"
            + "\n"
        )


def by_batch(out: Path, jobs: list[dict]) -> None:
    assert all(result.error is None for result in render(jobs, out))


def by_loop(out: Path, jobs: list[dict]) -> None:
    out.mkdir()
    pipeline = Pipeline("embedded")
    for job in jobs:
        clip = pipeline.animate(job["image"], job["prompt"], seed=job["seed"], steps=job["steps"])
        clip.save(out / f"{job['seed']}.mp4")


def by_shell(out: Path, jobs: list[dict]) -> None:
    out.mkdir()
    for job in jobs:
        given = [job["image"], job["prompt"], "--seed", str(job["seed"]), "--steps", str(job["steps"])]
        target = str(out / f"{job['seed']}.mp4")
        subprocess.run(
            [sys.executable, "-m", "dynamicrafter_core", "animate", *given, "-o", target, "--quiet"], check=True
        )


def survive(folder: Path, jobs: list[dict], kills: int) -> None:
    begun = time.perf_counter()
    states = [result.state for result in render(folder / "jobs.jsonl", folder / "peace")]
    peace = time.perf_counter() - begun
    command = [
        sys.executable,
        "-m",
        "dynamicrafter_core",
        "batch",
        str(folder / "jobs.jsonl"),
        "-o",
        str(folder / "out"),
        "--quiet",
    ]
    chance, runs = random.Random(0), 0
    for _ in range(kills):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            process.wait(chance.uniform(2, 2 + 1.6 * peace / kills))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            runs += 1
    last = subprocess.run(command, capture_output=True, text=True)
    peaceful, killed = contents(folder / "peace"), contents(folder / "out")
    others = sorted(name for name in peaceful | killed if peaceful.get(name) != killed.get(name))
    sys.stdout.write(
        f"{len(jobs)} jobs: {states.count('made')} made, {states.count('failed')} failed, in {peace:.0f} s without a kill"
        + "\n"
    )
    sys.stdout.write(
        f"killed {runs} times: the same files by content: {'NO, but not ' + ', '.join(others) if others else 'yes'}; "
        f"{len(last.stderr.splitlines())} sentences" + "\n"
    )


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.mp4"))}


if __name__ == "__main__":
    main()
