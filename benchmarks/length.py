"""`python -m benchmarks.length`: long clips by windows and by going on, on held-out real pictures, and what they cost.

Seams are the step from frame to frame where two windows or two clips meet, by the mean step of the clip. `--memory` measures a random
UNet of a released size instead: the peak while it samples clips of growing length, beside that of one window. `--write` puts the
first table into docs/length.md.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dynamicrafter_core.devices import PeakMemory, pick_training_dtype, reused_memory
from dynamicrafter_core.diffusion.guidance import Guidance, guided
from dynamicrafter_core.diffusion.sampling import sample_ddim
from dynamicrafter_core.diffusion.windows import Windows
from dynamicrafter_core.families import FAMILIES
from dynamicrafter_core.media.colour import Match
from dynamicrafter_core.models.unet import VideoUNet
from dynamicrafter_core.pipeline.conditions import Conditions, in_windows, run_branches
from dynamicrafter_core.pipeline.keyframes import Keyframe
from dynamicrafter_core.pipeline.pipeline import Pipeline
from dynamicrafter_core.training.motion_judge import see_motion
from dynamicrafter_core.training.picture_clips import PictureClips

from .models import SIZES, config, random_weights

DOCUMENT = Path(__file__).parents[1] / "docs" / "length.md"
FINE = tuple(0.02 * k for k in range(1, 25))  # picture widths that a quarter of a clip may move


def steps_of(frames: Tensor, closed: bool = False) -> Tensor:
    """Mean change from each frame [T,H,W,3] to the next; of a closed loop, from the last to the first too."""
    values = frames.float()
    following = values.roll(-1, 0) if closed else values[1:]
    return (following - values[: len(following)]).abs().mean((1, 2, 3))


def seam(frames: Tensor, places: Iterable[int], closed: bool = False) -> float:
    """The largest of the steps that end at these frames, by the mean step."""
    steps = steps_of(frames, closed)
    return float(max(steps[place - 1] for place in places) / steps.mean())


def unevenness(frames: Tensor, motion: str, parts: int = 4) -> float | None:
    """How far the motion of a part is from the mean of all parts; None if one of them does not show the motion."""
    clip = frames.permute(3, 0, 1, 2).float() / 127.5 - 1
    seen = [see_motion(part[None], motions=("still", motion), extents=FINE)[0] for part in clip.chunk(parts, 1)]
    extents = [each.extent for each in seen if each.motion == motion]
    mean = sum(extents) / max(1, len(extents))
    return max(abs(extent / mean - 1) for extent in extents) if len(extents) == parts else None


def drift(frames: Tensor, picture: Tensor) -> float:
    """How far the mean colour of the last frame is from that of the picture [3,H,W] in -1..1, of 255."""
    wanted = (picture.mean((1, 2)) + 1) * 127.5
    return float((frames[-1].float().mean((0, 1)) - wanted).abs().max())


def windows(pipeline: Pipeline, pictures: Sequence[Tensor], steps: int) -> list[str]:
    rows = []
    for name, more in {
        "windows of 16, overlap 4": {},
        "windows of 16, overlap 8": {"overlap": 8},
        "overlap 8, stride 2": {"overlap": 8, "stride": 2},
        "overlap 8, FreeNoise": {"overlap": 8, "freenoise": True},
    }.items():
        begun = time.process_time()
        made = [
            pipeline.animate(each, "the camera zooms in", frames=64, window=16, seed=k, steps=steps, **more).frames  # type: ignore[arg-type]
            for k, each in enumerate(pictures)
        ]
        seconds = (time.process_time() - begun) / len(made)
        overlap = more.get("overlap", 4)
        borders = sorted({w[0] for w in Windows(16, int(overlap)).places(64)} - {0})
        said = unevenly([unevenness(each, "zoom_in") for each in made])
        rows.append(
            f"| {name} | 64 frames, zoom in | {median([seam(each, borders) for each in made]):.2f} | {said} | {seconds:.0f} |"
        )
    made = [
        pipeline.animate(
            each, "it gets dark", frames=48, window=16, overlap=8, closed_loop=True, seed=k, steps=steps
        ).frames
        for k, each in enumerate(pictures)
    ]
    loops = median([seam(each, [len(each)], closed=True) for each in made])
    rows.append(f"| closed loop, overlap 8 | 48 frames, last to first | {loops:.2f} | | |")
    return rows


def chain(pipeline: Pipeline, picture: Tensor, prompt: str, k: int, steps: int, keep: int, match: Match) -> Tensor:
    """64 frames of four clips, each of which goes on from the one before."""
    clips = [pipeline.animate(picture, prompt, seed=k, steps=steps)]
    for part in range(1, 4):
        asked = {"frames": 16 + keep, "seed": 100 * part + k, "steps": steps}
        clips.append(pipeline.extend(clips[-1], prompt, image=picture, keep=keep, match=match, **asked))  # type: ignore[arg-type]
    return torch.cat([clip.frames for clip in clips])


def chains(pipeline: Pipeline, pictures: Sequence[Tensor], steps: int) -> list[str]:
    rows = []
    tried: list[tuple[int, Match]] = [(1, "joint"), (1, "first"), (1, "off"), (2, "joint")]
    for keep, match in tried:
        made = [
            chain(pipeline, each, "the camera stands still", k, steps, keep, match) for k, each in enumerate(pictures)
        ]
        seams = [seam(each, (16, 32, 48)) for each in made]
        drifts = [drift(each, picture) for each, picture in zip(made, pictures, strict=True)]
        what = f"chain of four, keep {keep}, colours {match}"
        rows.append(f"| {what} | 64 frames, still | {median(seams):.2f} | colour drift {median(drifts):.1f} of 255 | |")
    made = [chain(pipeline, each, "the camera zooms in", k, steps, 1, "joint") for k, each in enumerate(pictures)]
    seams = [seam(each, (16, 32, 48)) for each in made]
    uneven = unevenly([unevenness(each, "zoom_in") for each in made])
    rows.append(f"| chain of four, keep 1, colours joint | 64 frames, zoom in | {median(seams):.2f} | {uneven} | |")
    return rows


def keyframes(pipeline: Pipeline, pictures: Sequence[Tensor], steps: int) -> list[str]:
    """Ways between two pictures: how much of both is there, beside an interpolation of as many frames as the model was trained on."""
    rows = []
    pairs = list(zip(pictures, [*pictures[1:], pictures[0]], strict=True))
    for gap in (15, 7, 40, 63):
        likeness, seams = [], []
        for k, (first, last) in enumerate(pairs):
            ends = [Keyframe(first, 0), Keyframe(last, gap)]
            frames = pipeline.keyframes(ends, "", seed=k, steps=steps).frames
            likeness += [psnr(frames[0], first), psnr(frames[-1], last)]
            seams.append(float(steps_of(frames).max() / steps_of(frames).mean()))
        rows.append(
            f"| keyframes, {gap} apart | {gap + 1} frames | {median(seams):.2f} (largest step) | pictures at {median(likeness):.1f} dB | |"
        )
    return rows


def psnr(frame: Tensor, picture: Tensor) -> float:
    wanted = (picture.permute(1, 2, 0) + 1) * 127.5
    return float(10 * torch.log10(255**2 / (frame.float() - wanted).square().mean()))


def unevenly(found: Sequence[float | None]) -> str:
    known = sorted(each for each in found if each is not None)
    return f"{median(known):.0%} in {len(known)} of {len(found)} clips" if known else "motion not seen in every quarter"


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def peak(size: str, frames: int) -> None:
    """One step of a random UNet in windows of 16, without guidance, in a process of its own; prints gigabytes and seconds."""
    figures, family = config(size), FAMILIES["dynamicrafter_512"]
    height, width = SIZES[size][-2:]
    dtype = fastest_dtype()
    unet = random_weights(VideoUNet(figures)).to(dtype)
    conditions = Conditions(
        torch.randn(2, 77, figures.context_dim, dtype=dtype),
        torch.randn(2, 16, 16, figures.context_dim, dtype=dtype),
        torch.randn(1, 4, 1, height, width, dtype=dtype).expand(-1, -1, frames, -1, -1),
        family.fs_default,
    )
    run: Callable = in_windows(Windows(16, 4), conditions, frames, lambda part: run_branches(unet, part))
    with torch.inference_mode(), reused_memory(torch.device("cpu")):
        watch, begun = PeakMemory(torch.device("cpu")), time.process_time()
        x = torch.randn(1, 4, frames, height, width)
        sample_ddim(guided(run, Guidance(1.0)), x, family.schedule(), 1, family.spacing, eta=0.0)
        sys.stdout.write(f"{watch.mark() / 2**30:.3f} {time.process_time() - begun:.1f}\n")


def fastest_dtype() -> torch.dtype:
    return pick_training_dtype("auto", torch.device("cpu"))


def memory(size: str, lengths: Sequence[int]) -> Iterator[str]:
    """The lines of a table, as they come."""
    yield f"| frames, {size}, {str(fastest_dtype()).removeprefix('torch.')} | peak, GiB | relative to 16 frames | CPU seconds per step | per frame |"
    yield "|---|---|---|---|---|"
    first = None
    for frames in lengths:
        command = [sys.executable, "-m", "benchmarks.length", "--peak", size, str(frames)]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        gib, seconds = float(found[0]), float(found[1])
        first = gib if first is None else first
        yield f"| {frames} | {gib:.2f} | {gib / first:.2f} | {seconds:.1f} | {seconds / frames:.2f} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.length", description=__doc__)
    parser.add_argument("--model", default="embedded", help="a checkpoint (the embedded model)")
    parser.add_argument("--count", type=int, default=6, help="pictures (6)")
    parser.add_argument("--steps", type=int, default=8, help="of sampling (8)")
    parser.add_argument("--memory", choices=SIZES, help="measure memory and time of a random UNet at this size")
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 64, 256, 1024], help="for --memory")
    parser.add_argument("--peak", nargs=2, metavar=("SIZE", "FRAMES"), help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="put the table into docs/length.md")
    options = parser.parse_args()
    if options.peak:
        peak(options.peak[0], int(options.peak[1]))
        return 0
    if options.memory:
        for line in memory(options.memory, options.frames):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        return 0
    pipeline = Pipeline(options.model, keep_loaded=True)
    family = pipeline.family
    source = PictureClips(
        family.height, family.width, family.frames, fs=(family.fs_default or 8, family.fs_default or 8)
    )
    clips = source("held-out", range(options.count), motions=["still"] * options.count)
    pictures = list(clips.pixels[:, :, 0])
    rows = windows(pipeline, pictures, options.steps) + chains(pipeline, pictures, options.steps)
    rows += keyframes(pipeline, pictures, options.steps)
    head = [f"Medians of {options.count} held-out pictures, {options.steps} steps.", ""]
    head += [
        "| how | clip | seam, relative to the mean step | unevenness of motion, or drift | CPU seconds |",
        "|---|---|---|---|---|",
    ]
    text = "\n".join([*head, *rows]) + "\n"
    sys.stdout.write(text)
    if options.write:
        parts = re.split(r"(?<=<!-- table -->\n)|(?=<!-- end -->)", DOCUMENT.read_text(encoding="utf-8"))
        DOCUMENT.write_text("".join((parts[0], text, parts[-1])), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
