"""`python -m benchmarks.editing`: clips made over and frame rates doubled, on held-out real pictures in motion, in figures.

Doubling leaves out every second frame of a clip and makes it again; its error is beside that of the mean of the two frames around it.
`--write` puts the tables into docs/editing.md.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dynamicrafter_core.pipeline.keyframes import Keyframe
from dynamicrafter_core.pipeline.pipeline import Pipeline
from dynamicrafter_core.training.picture_clips import PictureClips

DOCUMENT = Path(__file__).parents[1] / "docs" / "editing.md"
MOTIONS = ("pan_left", "zoom_in", "pan_up", "zoom_out", "pan_right", "pan_down")
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
DARK = "it gets dark"


def error(made: Tensor, real: Tensor) -> float:
    """Root mean square of the difference of two clips, of 255."""
    return float((made.float() - real.float()).square().mean().sqrt())


def blended(few: Tensor) -> Tensor:
    """Every second frame as the mean of those around it: n -> 2n-1."""
    out = few.float().repeat_interleave(2, 0)[:-1]
    out[1::2] = (few[:-1].float() + few[1:].float()) / 2
    return out.round().to(torch.uint8)


def through_the_autoencoder(pipeline: Pipeline, clip: Tensor) -> Tensor:
    """What encoding and decoding alone leave of a clip: all of it is held."""
    given, held = list(clip.numpy()), [1.0] * len(clip)
    return pipeline.animate(given[0], frames=len(given), original=given, mask=held, seed=1, steps=1).frames


def by_mask(pipeline: Pipeline, few: Tensor, steps: int) -> Tensor:
    """One clip whose even frames are held."""
    count = 2 * len(few) - 1
    pictures = list(few.numpy())
    held = [float(frame % 2 == 0) for frame in range(count)]
    doubled = [pictures[frame // 2] for frame in range(count)]
    return pipeline.interpolate(
        pictures[0], pictures[-1], frames=count, original=doubled, mask=held, seed=1, steps=steps
    ).frames


def by_keyframes(pipeline: Pipeline, few: Tensor, steps: int) -> Tensor:
    """A clip between every two frames, of which the middle is kept."""
    ends = [Keyframe(picture, 2 * number) for number, picture in enumerate(few.numpy())]
    return pipeline.keyframes(ends, seed=1, steps=steps).frames


def double(pipeline: Pipeline, clips: Tensor, steps: int) -> list[str]:
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "the mean of both neighbours": blended,
        "the real frames (autoencoder only)": lambda real: through_the_autoencoder(pipeline, real),
        "one clip, the known frames held by a mask": lambda few: by_mask(pipeline, few, steps),
        "keyframes: a clip between every two frames": lambda few: by_keyframes(pipeline, few, steps),
    }
    rows = ["| way | error of the new frames, of 255 | CPU seconds per clip |", "|---|---|---|"]
    for name, way in ways.items():
        begun, errors = time.process_time(), []
        for clip in clips:
            real = clip[:15]
            given = real if "autoencoder" in name else real[::2]
            errors.append(error(way(given)[1::2], real[1::2]))
        seconds = (time.process_time() - begun) / len(clips)
        rows.append(f"| {name} | {mean(errors):.1f} | {seconds:.1f} |")
    return rows


def make_over(pipeline: Pipeline, clips: Tensor, steps: int) -> list[str]:
    rows = [
        "| strength | error against the given clip, of 255 | brightness of the last frame relative to the given one |"
    ]
    rows.append("|---|---|---|")
    for strength in (0.0, *STRENGTHS):
        errors, lights = [], []
        for clip in clips:
            given = list(clip.numpy())
            if strength:
                made = pipeline.animate(given[0], DARK, original=given, strength=strength, seed=1, steps=steps).frames
            else:
                made = through_the_autoencoder(pipeline, clip)
            errors.append(error(made, clip))
            lights.append(float(made[-1].float().mean() / clip[-1].float().mean()))
        told = f"{strength:g}" if strength else "none (autoencoder only)"
        rows.append(f"| {told} | {mean(errors):.1f} | {mean(lights):.2f} |")
    return rows


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.editing", description=__doc__)
    parser.add_argument("checkpoint", nargs="?", default="embedded", help="default: the embedded model")
    parser.add_argument("--count", type=int, default=3, help="clips (3)")
    parser.add_argument("--steps", type=int, default=10, help="of sampling (10)")
    parser.add_argument("--pictures", default="", help="a file of packed pictures (the one in the cache)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/editing.md")
    options = parser.parse_args()
    pipeline = Pipeline(options.checkpoint)
    family = pipeline.family
    source = PictureClips(family.height, family.width, family.frames, pack=options.pictures)
    names = [MOTIONS[number % len(MOTIONS)] for number in range(options.count)]
    pixels = source("held-out", range(options.count), motions=names).pixels
    clips = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1)  # n t h w c
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, measure in (("over", make_over), ("double", double)):
        head = f"{options.count} clips, {options.steps} steps."
        table = "\n".join([head, "", *measure(pipeline, clips, options.steps)])
        sys.stdout.write(f"{table}\n\n")
        sys.stdout.flush()
        text = re.sub(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", f"{table}\n", text, flags=re.S)
    if options.write:
        DOCUMENT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
