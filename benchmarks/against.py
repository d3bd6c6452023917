"""`python -m benchmarks.against REVISION`: this tree's UNet beside that of an earlier commit, in one process, in turns.

The earlier core is unpacked into a folder of another name and imported beside today's, since all its imports are relative. Both
get the same weights and inputs. Tells the ratio of their times and the largest difference of what they compute.
"""

import argparse
import importlib
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import torch

from dynamicrafter_core.devices import reused_memory
from dynamicrafter_core.models.unet import VideoUNet

from .measure import machine, medians
from .models import SIZES, config, inputs, random_weights

ROOT = Path(__file__).resolve().parent.parent


def earlier_core(revision: str, folder: Path) -> Any:
    """The package `earlier.dynamicrafter_core`, as it was at `revision`."""
    packed = subprocess.run(["git", "archive", revision, "dynamicrafter_core"], cwd=ROOT, capture_output=True)
    if packed.returncode:
        raise SystemExit(f"There is no revision {revision!r} here: {packed.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        members = [member for member in archive.getmembers() if member.name.endswith(".py")]
        archive.extractall(folder / "earlier", members, filter="data")
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("earlier.dynamicrafter_core")
    finally:
        sys.path.remove(str(folder))


def compare(core: Any, size: str, dtype: torch.dtype, repeat: int) -> list[tuple[str, float, float]]:
    """What, time of today over time of then, and the largest difference: of a forward and of a guided step."""
    figures = {"model_channels": config(size).model_channels}
    today = random_weights(VideoUNet(config(size), dtype=dtype))
    then = core.VideoUNet(core.UNetConfig(**figures), dtype=dtype).eval()
    then.load_state_dict(today.state_dict())
    found = []
    for branches in (1, 2, 3):
        given = inputs(size, branches, dtype, torch.device("cpu"))
        difference = (today(*given) - then(*given)).abs().max().item()
        ours, theirs = medians([lambda g=given: today(*g), lambda g=given: then(*g)], repeat)
        what = "forward" if branches == 1 else f"guided step, {branches} branches"
        found.append((what, ours / theirs, difference))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("revision", help="a commit, branch or tag of this repository")
    parser.add_argument("--size", choices=SIZES, default="tiny", help="latent size (default: tiny)")
    parser.add_argument("--repeat", type=int, default=15, help="runs of each; the median is reported (default: 15)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(), reused_memory(torch.device("cpu")):
        rows = compare(earlier_core(options.revision, Path(folder)), options.size, torch.float32, options.repeat)
    lines = [f"| {what} | {ratio:.2f} | {difference:g} |" for what, ratio, difference in rows]
    head = f"| {options.size}, fp32 | time, now / {options.revision} | largest difference |\n| --- | --- | --- |"
    sys.stdout.write("\n".join([f"### {machine(torch.device('cpu'))}\n", head, *lines]) + "\n")


if __name__ == "__main__":
    main()
