"""Do things go where strokes lead them, and does nothing move outside a brush?

What a stroke starts on is looked for in the last frame, everywhere: by the correlation of its patch, whose brightness and contrast do
not count. A clip that stands still misses a stroke by the stroke's length, and a clip whose patch truly moved by nothing.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from dynamicrafter_core.pipeline.pipeline import Pipeline
from dynamicrafter_core.training.clips import Clips
from dynamicrafter_core.training.seeds import uniform

from .measures import PANS_AND_ZOOMS, Bench, Row, silent

RADIUS = 6  # of the patch, in 64ths of the picture's shorter side
NEAREST = 12  # of a stroke's ends to the picture's edge, likewise
LENGTHS = (12.0, 24.0)  # of strokes, likewise
DRAWN = 24  # strokes for each picture, of which the one is taken whose patch differs most from all other places
RIGHT = 1 / 3  # of the stroke's length
UNTIL = (0.0, 1.0)  # beside the usual share: the detail alone leads, and the frames lead to the end
PAPER = "[Time-to-Move](https://arxiv.org/abs/2511.08633)"
BLENDED = "[Blended Diffusion](https://arxiv.org/abs/2111.14818)"


@dataclass(frozen=True)
class Case:
    x: int
    y: int
    to_x: float
    to_y: float

    @property
    def length(self) -> float:
        return math.dist((self.x, self.y), (self.to_x, self.to_y))

    @property
    def text(self) -> str:
        return f"{self.x + 0.5},{self.y + 0.5} -> {self.to_x + 0.5:.2f},{self.to_y + 0.5:.2f}"


def draw_case(picture: Tensor, number: int) -> Case:
    """A stroke on a picture [3,H,W], from a place that can be told from others."""
    height, width = picture.shape[1:]
    unit = min(height, width) / 64
    best: tuple[float, Case] | None = None
    for a, b, c, d in uniform([("stroke", number, each) for each in range(DRAWN)], 4).tolist():
        x, y = (
            round(NEAREST * unit + share * (side - 2 * NEAREST * unit)) for share, side in ((a, width), (b, height))
        )
        length, angle = unit * (LENGTHS[0] + c * (LENGTHS[1] - LENGTHS[0])), 2 * math.pi * d
        case = Case(x, y, x + length * math.cos(angle), y + length * math.sin(angle))
        room = NEAREST * unit
        if not (room <= case.to_x <= width - room and room <= case.to_y <= height - room):
            continue
        apart, near = difference(picture, x, y), round(5 * unit)
        apart[max(0, y - near) : y + near + 1, max(0, x - near) : x + near + 1] = math.inf
        if best is None or float(apart.min()) > best[0]:
            best = float(apart.min()), case
    if best is None:  # every stroke leads out of the picture
        return Case(width // 2, height // 2, width / 2 + LENGTHS[0] * unit, height / 2)
    return best[1]


def correlation(picture: Tensor, frame: Tensor, x: int, y: int) -> Tensor:
    """How like the patch of the picture around x, y each place of the frame is, [H,W] from -1 to 1."""
    patches = patches_of(frame)
    patch = patches_of(picture)[..., y * picture.shape[2] + x, None]
    both = (patches * patch).sum((0, 1))
    spread = (patches**2).sum((0, 1)).sqrt() * (patch**2).sum().sqrt()
    return (both / spread.clamp(min=1e-6)).view(frame.shape[1:])


def difference(picture: Tensor, x: int, y: int) -> Tensor:
    """Mean square by which each place of the picture differs from the patch around x, y, but for its brightness: [H,W]."""
    patches = patches_of(picture)
    return ((patches - patches[..., y * picture.shape[2] + x, None]) ** 2).sum((0, 1)).view(picture.shape[1:])


def patches_of(frame: Tensor) -> Tensor:
    """The round patch around each place, without its mean: [3, values, places]; their squares sum to means."""
    radius = round(RADIUS * min(frame.shape[1:]) / 64)
    side = torch.arange(-radius, radius + 1.0)
    weight = (side[:, None] ** 2 + side**2 <= (radius + 0.5) ** 2).float().flatten()[None, :, None]
    weight = weight / weight.sum()
    patches = F.unfold(F.pad(frame[None], [radius] * 4, mode="replicate"), 2 * radius + 1)
    places = patches.view(3, weight.numel(), -1)
    return (places - (places * weight).sum(1, keepdim=True)) * weight.sqrt()


def end_point_error(picture: Tensor, frame: Tensor, case: Case) -> float:
    """How far what the stroke starts on lies from the stroke's end, in lengths of the stroke."""
    found = int(correlation(picture, frame, case.x, case.y).argmax())
    row, column = divmod(found, frame.shape[2])
    return math.dist((column, row), (case.to_x, case.to_y)) / case.length


def energy_inside(clips: Tensor, region: Tensor) -> float:
    """The share of what changes from frame to frame [B,3,T,H,W] that changes inside a region [B,H,W]."""
    squares = (clips.diff(dim=2) ** 2).sum((1, 2))
    return float((squares * region).sum() / squares.sum().clamp(min=1e-12))


def strokes(bench: Bench) -> list[Row]:
    clips = silent(bench.pictures(0, ["still"] * bench.cases))
    pictures = list(clips.pixels[:, :, 0].cpu())
    cases = [draw_case(picture, number) for number, picture in enumerate(pictures)]
    plain, without = film(bench, clips, [{} for _ in cases])
    made, seconds = film(bench, clips, [{"strokes": case.text} for case in cases])
    few = 2 * bench.count
    some = replace(clips, pixels=clips.pixels[:few], captions=clips.captions[:few])
    shares = []
    for until in UNTIL:
        led, _ = film(bench, some, [{"strokes": f"{case.text}; until {until:g}"} for case in cases[:few]])
        shares.append(f"until {until:g}: {right(pictures[:few], led, cases[:few])}")
    effect = (
        f"{told(pictures, made, cases)}; without strokes {told(pictures, plain, cases)}. Of the first {few}: "
        f"{right(pictures[:few], made[:few], cases[:few])}; with {', '.join(shares)}"
    )
    return [Row("strokes", PAPER, effect, seconds / without)]


def right(pictures: Sequence[Tensor], made: Tensor, cases: Sequence[Case]) -> int:
    """Clips in which what was led ends within a third of its way from where it should."""
    return sum(end_point_error(*each) < RIGHT for each in zip(pictures, made[:, :, -1], cases, strict=True))


def told(pictures: Sequence[Tensor], made: Tensor, cases: Sequence[Case]) -> str:
    errors = [end_point_error(*each) for each in zip(pictures, made[:, :, -1], cases, strict=True)]
    return (
        f"{right(pictures, made, cases)} of {len(errors)} end less than a third of the stroke's length from its end (mean error "
        f"{sum(errors) / len(errors):.2f}, median {sorted(errors)[len(errors) // 2]:.2f})"
    )


def brush(bench: Bench) -> list[Row]:
    """A disc over a quarter of the picture may move, under prompts that move all of it; and a brushed disc along a stroke."""
    count = 2 * bench.count
    clips = bench.pictures(200, [PANS_AND_ZOOMS[number % len(PANS_AND_ZOOMS)] for number in range(count)])
    height, width = clips.pixels.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pictures = list(clips.pixels[:, :, 0].cpu())
    cases = [draw_case(picture, number) for number, picture in enumerate(pictures)]
    large = disc(x, y, width / 2, height / 2, (height * width / 4 / math.pi) ** 0.5).expand(count, -1, -1)
    small = torch.stack([disc(x, y, case.x + 0.5, case.y + 0.5, min(height, width) / 8) for case in cases])
    way = torch.stack([along(x, y, case, min(height, width) / 8) for case in cases])
    plain, without = film(bench, clips, [{} for _ in cases])
    held, seconds = film(bench, clips, [{"brush": mask} for mask in large])
    led, _ = film(
        bench, clips, [{"brush": mask, "strokes": case.text} for mask, case in zip(small, cases, strict=True)]
    )
    effect = (
        f"{percent(held, large)} of the motion energy lies inside the brush, without a brush {percent(plain, large)} ({count} clips); with "
        f"strokes {percent(led, way)} inside the brush and its path, without {percent(plain, way)}"
    )
    return [Row("motion brush", BLENDED, effect, seconds / without)]


def disc(x: Tensor, y: Tensor, across: float, down: float, radius: float) -> Tensor:
    return ((x - across) ** 2 + (y - down) ** 2 <= radius**2).float()


def along(x: Tensor, y: Tensor, case: Case, radius: float) -> Tensor:
    steps = [share / 32 for share in range(33)]
    places = [(case.x + 0.5 + s * (case.to_x - case.x), case.y + 0.5 + s * (case.to_y - case.y)) for s in steps]
    return torch.stack([disc(x, y, *place, radius) for place in places]).amax(0)


def percent(clips: Tensor, region: Tensor) -> str:
    return f"{100 * energy_inside(clips, region):.0f} %"


def film(bench: Bench, clips: Clips, options: Sequence[dict[str, object]]) -> tuple[Tensor, float]:
    """A clip of each picture as a user gets it, in -1..1, and the CPU time that one took."""
    model = bench.subject
    pipeline = Pipeline(model.path, device=model.device, dtype="fp32", keep_loaded=True)
    made = []
    pipeline.animate(clips.pixels[0, :, 0], steps=1)  # the parts are loaded by the first
    began = time.process_time()
    for number, (picture, caption, given) in enumerate(
        zip(clips.pixels[:, :, 0], clips.captions, options, strict=True)
    ):
        asked = {
            "steps": model.dials.steps,
            "text_scale": model.dials.text_scale,
            "fs": model.fs,
            "seed": number,
            **given,
        }
        frames = pipeline.animate(picture, caption, **asked).frames  # type: ignore[arg-type]
        made.append(frames.movedim(-1, 0).float() / 127.5 - 1)
    return torch.stack(made), (time.process_time() - began) / len(made)
