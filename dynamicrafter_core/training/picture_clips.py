"""Clips of real pictures: stills under a moving camera, and a share of real clips with their motion measured.

A still is larger than the frame, so what comes into view is known and true. The camera's motions are those of motions.py, alone or two
together, at the speed that fs says, as procedural clips have it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from .camera import light, look
from .clips import Clips, extents_of, pick
from .motion_judge import STILL_ERROR, see_motion
from .motions import RATES, find_motion, find_motions, rates_of
from .picture_pack import Picture, open_pack
from .seeds import generator
from .videos import fit_frame

CAMERA = (
    *("still", "pan_left", "pan_right", "pan_up", "pan_down", "zoom_in", "zoom_out"),
    *("rotate_clockwise", "rotate_counterclockwise", "darken", "brighten"),
)
MIXTURES = (
    *(f"{pan}+{zoom}" for pan in ("pan_left", "pan_right", "pan_up", "pan_down") for zoom in ("zoom_in", "zoom_out")),
    *(f"{side}+{height}" for side in ("pan_left", "pan_right") for height in ("pan_up", "pan_down")),
    *(f"{zoom}+{turn}" for zoom in ("zoom_in", "zoom_out") for turn in ("rotate_clockwise", "rotate_counterclockwise")),
)
_KINDS = ("", "", "a picture, ", "a photograph, ", "the scene, ")
_ALIVE = ("everything moves", "the scene comes alive", "things move", "it moves")
_SUPERSAMPLED = 2  # samples to a pixel, each way
_SMALLEST = 0.55  # of the largest view that stays within the still
_GREY = 0.05  # share of clips without colour
_EXPLAINED = 0.75  # share of a real clip's change that the camera must explain to be named


@dataclass(frozen=True)
class Shot:
    """A still and where the camera stands in it."""

    still: Tensor  # 3 y x, 0..1
    middle: tuple[float, float]  # x, y in pixels of the still
    unit: float  # pixels of the still to a picture width
    window_of: int = 0  # pixels of the picture whose middle alone is filmed; 0: all of it

    def film(self, rates: Tensor, extents: Tensor, height: int, width: int) -> Tensor:
        """rates [RATES], extents [T] -> pixels 3 t h w, -1..1."""
        change = dict(zip(RATES, (rates[:, None] * extents).unbind(0), strict=True))  # t
        fine = _SUPERSAMPLED
        wide = {name: value[:, None, None] for name, value in change.items()}
        x, y = look(wide, fine * height, fine * width, fine * (self.window_of or max(height, width)))
        tall, broad = self.still.shape[-2:]
        place = [
            (c * self.unit + m) * 2 / size - 1 for c, m, size in zip((x, y), self.middle, (broad, tall), strict=True)
        ]
        grid = torch.stack(place, -1).flatten(0, 1)[None]  # 1 (t y) x 2
        seen = F.grid_sample(self.still[None], grid, padding_mode="reflection", align_corners=False)
        seen = F.avg_pool2d(seen, fine)[0].unflatten(1, (len(extents), height))
        shine = {name: change[name][:, None, None] for name in ("light", "dark")}
        return light(seen, shine) * 2 - 1


@dataclass(frozen=True)
class FilmedClips(Clips):
    """Clips that a camera of known motion made of stills."""

    motions: list[str]
    extents: Tensor  # b: how far the last frame has come, in picture widths
    shots: list[Shot]


class PictureClips:
    """A source of clips, as ProceduralClips is: `source(split, numbers)`. What is held out is never trained on."""

    def __init__(
        self,
        height: int,
        width: int,
        frames: int,
        motions: Sequence[str] = CAMERA,
        mixtures: Sequence[str] = MIXTURES,
        mixed: float = 0.3,
        real: float = 0.1,
        fs: Sequence[int] = (8, 32),
        seed: int = 0,
        device: torch.device | str = "cpu",
        pack: str | os.PathLike[str] = "",
        first: int = 0,
        window_of: int = 0,
    ) -> None:
        """`mixed`: share of clips under one of `mixtures`; `real`: share of real clips, while training. `pack`: a file of packed
        pictures instead of the one in the cache. `first`: number of the first clip. `window_of`: pixels; show only the middle of
        pictures this large, at their speed; 0: all of the picture."""
        self.height, self.width, self.frames = height, width, frames
        self.motions, self.mixtures = [[m.name for m in find_motions(tuple(names))] for names in (motions, mixtures)]
        self.mixed, self.real, self.fs, self.seed, self.device, self.first = mixed, real, tuple(fs), seed, device, first
        self.window_of = window_of
        longer = max(height, width)
        self.tall, self.broad = (side * (window_of or longer) // longer for side in (height, width))  # of the whole
        pictures = open_pack(Path(pack) if pack else None)
        self.stills = {
            held: [p for p in pictures if p.packed.held_out is held and not p.packed.rate] for held in (False, True)
        }
        self.clips = [p for p in pictures if p.packed.rate and not p.packed.held_out]
        if not self.stills[False] or not self.stills[True]:
            raise InputError("There are too few packed pictures: some are needed for training and some to hold out.")

    def __call__(self, split: str, numbers: Sequence[int], **given: Any) -> Clips:
        """`given`: `motions` and `fs` instead of drawn ones, one for each clip; then, and of what is held out, all are FilmedClips."""
        filmed = split != "train" or bool(given)
        made = [
            self._real(number)
            if not filmed and self.clips and self._chance(split, number, "kind")[0] < self.real
            else self._filmed(split, number, {name: values[row] for name, values in given.items()})
            for row, number in enumerate(self.first + number for number in numbers)
        ]
        pixels = torch.stack([each.pixels for each in made]).to(self.device)
        captions, fs = [each.caption for each in made], torch.tensor([each.fs for each in made], device=self.device)
        shown = [(each.motion, each.extent, each.shot) for each in made if isinstance(each, _Filmed)]
        if not filmed:
            return Clips(pixels, captions, fs)
        motions, extents, shots = zip(*shown, strict=True)
        return FilmedClips(pixels, captions, fs, list(motions), torch.tensor(extents), list(shots))

    def _filmed(self, split: str, number: int, given: dict[str, Any]) -> "_Filmed":
        chance = self._chance(split, number, "camera")
        names = self.mixtures if self.mixtures and chance[0] < self.mixed else self.motions
        motion = given.get("motions") or pick(names, chance[1])
        slow, fast = self.fs[1], self.fs[0]
        fs = given.get("fs") or round(1 / (1 / slow + chance[2] * (1 / fast - 1 / slow)))
        extents = extents_of(torch.tensor([fs]), self.frames)[0]
        rates = rates_of([motion])[0]
        stills = self.stills[split != "train"]
        picture = self._in_turn(stills, split, number)
        still = picture.frames[0].float() / 255
        still = still.flip(-1) if chance[3] < 0.5 else still
        still = still.mean(0, keepdim=True).expand_as(still) if chance[4] < _GREY else still
        shot = replace(_stand(still, rates, extents, self.tall, self.broad, chance[5:8]), window_of=self.window_of)
        pixels = shot.film(rates, extents, self.height, self.width)
        return _Filmed(pixels, _say(motion, picture, chance[8:11]), fs, motion, float(extents[-1]), shot)

    def _real(self, number: int) -> "_Made":
        """A stretch of a real clip, captioned by the camera's motion where that explains it."""
        chance = self._chance("train", number, "stretch")
        picture = self._in_turn(self.clips, "clips", number)
        longest = max(1, (len(picture.frames) - 1) // max(1, self.frames - 1))
        stride = 1 + int(chance[0] * min(longest, 2))
        first = int(chance[1] * max(1, len(picture.frames) - stride * (self.frames - 1)))
        places = [min(first + stride * frame, len(picture.frames) - 1) for frame in range(self.frames)]
        frames = picture.frames[places]
        fitted = torch.stack([fit_frame(frame.permute(1, 2, 0), self.tall, self.broad) for frame in frames], 1)
        top, left = (self.tall - self.height) // 2, (self.broad - self.width) // 2
        pixels = fitted[:, :, top : top + self.height, left : left + self.width]
        seen = see_motion(pixels[None], motions=self.motions)[0]
        named = seen.errors["still"] < STILL_ERROR if seen.motion == "still" else seen.explained >= _EXPLAINED
        said = _say(seen.motion, picture, chance[2:5]) if named else pick(_ALIVE, chance[2])
        low, high = self.fs
        return _Made(pixels, said, min(max(round(picture.packed.rate / stride), low), high))

    def _in_turn(self, pictures: list[Picture], split: str, number: int) -> Picture:
        """Every picture once before any comes again, each time in another order."""
        turn, place = divmod(number, len(pictures))
        return pictures[int(torch.randperm(len(pictures), generator=generator(self.seed, split, "order", turn))[place])]

    def _chance(self, split: str, number: int, use: str) -> list[float]:
        return torch.rand(12, generator=generator(self.seed, split, number, use)).tolist()


@dataclass(frozen=True)
class _Made:
    pixels: Tensor  # 3 t h w
    caption: str
    fs: int


@dataclass(frozen=True)
class _Filmed(_Made):
    motion: str
    extent: float
    shot: Shot


def _stand(still: Tensor, rates: Tensor, extents: Tensor, height: int, width: int, chance: Sequence[float]) -> Shot:
    """A place for the camera from which all that comes into view is in the still, as far as one is large enough."""
    change = dict(zip(RATES, (rates[:, None] * extents)[:, :, None, None].unbind(0), strict=True))
    x, y = look(change, height, width, max(height, width))
    tall, broad = still.shape[-2:]
    half = 0.5 / max(height, width)  # a pixel's middle is that far from its edge
    spans = [(float(each.min()) - half, float(each.max()) + half) for each in (x, y)]
    unit = min(size / (high - low) for size, (low, high) in zip((broad, tall), spans, strict=True))
    unit *= _SMALLEST + (1 - _SMALLEST) * chance[0]
    middle = tuple(
        -low * unit + place * (size - (high - low) * unit)
        for size, (low, high), place in zip((broad, tall), spans, chance[1:], strict=True)
    )
    return Shot(still, (middle[0], middle[1]), unit)


def _say(motion: str, picture: Picture, choice: Sequence[float]) -> str:
    phrase = pick(find_motion(motion).phrases, choice[0]).format(thing="picture")
    title = picture.packed.title
    before = pick((*_KINDS, f"{title}, " if title else ""), choice[1])
    return before + phrase
