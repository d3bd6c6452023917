"""Clips in which a thing moves and the picture behind it stands still: real stills, and things with a shape in front of them.

What moves, where to, and what it uncovers is known exactly, as with a camera over a still; only that here a part of the picture moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from .clips import Clips, extents_of, pick
from .motions import RATES, find_motion, rates_of
from .picture_clips import PictureClips
from .seeds import generator
from .things import Thing, find_things

MOVES = ("object_left", "object_right", "object_up", "object_down", "grow", "shrink")
_SMALL, _LARGE = 0.26, 0.46  # a thing's longer side, of the picture's shorter one
_SUPERSAMPLED = 2  # samples to a pixel, each way
_EDGE = 0.12  # of the picture's side: a thing's middle stays so far from its border, where there is room


@dataclass(frozen=True)
class ThingMovedClips(Clips):
    """Clips of a moving thing, and where it is."""

    motions: list[str]
    extents: Tensor  # b: how far the last frame has come, in picture widths
    front: Tensor  # b 1 t h w: the thing's opacity

    @property
    def subjects(self) -> list[str]:
        return ["object"] * len(self.motions)


class ThingClips:
    """A source of clips, as PictureClips is. Neither a picture nor a thing that is held out is ever trained on."""

    def __init__(
        self,
        height: int,
        width: int,
        frames: int,
        motions: Sequence[str] = (*MOVES, "still"),
        fs: Sequence[int] = (8, 32),
        seed: int = 0,
        device: torch.device | str = "cpu",
        pack: str = "",
        font: str = "",
        first: int = 0,
        window_of: int = 0,
    ) -> None:
        """`pack`: a file of packed pictures instead of the one in the cache; `font`: a file instead of the installed one. `first`:
        number of the first clip. `window_of`: pixels; show only the middle of pictures this large, at their speed."""
        if not set(motions) <= {*MOVES, "still"}:
            raise InputError(f"A thing's motions are {', '.join(MOVES)} and still; {', '.join(motions)} was given.")
        self.behind = PictureClips(
            height, width, frames, ("still",), (), fs=fs, seed=seed, pack=pack, first=first, window_of=window_of
        )
        self.motions, self.fs, self.seed, self.device, self.first = tuple(motions), tuple(fs), seed, device, first
        self.height, self.width, self.frames = height, width, frames
        self.unit = window_of or max(height, width)
        found = find_things(font)
        self.things = {held: [thing for thing in found if thing.held_out is held] for held in (False, True)}

    def __call__(self, split: str, numbers: Sequence[int], **given: Any) -> ThingMovedClips:
        """`given`: `motions` and `fs` instead of drawn ones, one for each clip."""
        behind = self.behind(split, numbers, motions=["still"] * len(numbers), fs=[self.fs[1]] * len(numbers)).pixels
        rows = [
            self._moved(split, self.first + number, picture, {name: values[row] for name, values in given.items()})
            for row, (number, picture) in enumerate(zip(numbers, behind, strict=True))
        ]
        pixels, front, captions, fs, motions, extents = zip(*rows, strict=True)
        return ThingMovedClips(
            torch.stack(pixels).to(self.device),
            list(captions),
            torch.tensor(fs, device=self.device),
            list(motions),
            torch.tensor(extents),
            torch.stack(front).to(self.device),
        )

    def _moved(
        self, split: str, number: int, picture: Tensor, given: dict[str, Any]
    ) -> tuple[Tensor, Tensor, str, int, str, float]:
        """The clip [3,T,H,W], the thing's opacity, caption, fs, motion and extent."""
        chance = torch.rand(10, generator=generator(self.seed, split, number, "thing")).tolist()
        motion = given.get("motions") or pick(self.motions, chance[0])
        slow, fast = self.fs[1], self.fs[0]
        fs = given.get("fs") or round(1 / (1 / slow + chance[1] * (1 / fast - 1 / slow)))
        thing = pick(self.things[split != "train"], chance[2])
        extents = extents_of(torch.tensor([fs]), self.frames)[0]
        change = dict(zip(RATES, rates_of([motion])[0][:, None] * extents, strict=True))  # t
        shortest = min(self.height, self.width) / self.unit
        size = (_SMALL + (_LARGE - _SMALL) * chance[3]) * shortest / float(change["object_size"].exp().max().sqrt())
        x, y = (
            _track(change[name], side / self.unit, place)
            for name, side, place in zip(("object_x", "object_y"), (self.width, self.height), chance[4:6], strict=True)
        )
        drawn = self._draw(thing, x, y, size * change["object_size"].exp(), chance[6] < 0.5)
        colours, opacity = drawn[:3] * 2 - drawn[3:], drawn[3:]  # of -1..1, times opacity
        said = _say(motion, thing, chance[7:9])
        return picture * (1 - opacity) + colours, opacity, said, fs, motion, float(extents[-1])

    def _draw(self, thing: Thing, x: Tensor, y: Tensor, size: Tensor, flipped: bool) -> Tensor:
        """The thing with its middle at x, y and so large in each frame, in units from the picture's middle: 4 t h w."""
        fine, unit = _SUPERSAMPLED, self.unit
        shape = thing.picture.flip(-1) if flipped else thing.picture
        longer = max(shape.shape[-2:])
        factor = min(1.0, fine * unit * float(size.max()) / longer)  # nothing finer than can be seen
        small = (
            F.interpolate(shape[None], scale_factor=factor, mode="bilinear", antialias=True)
            if factor < 1
            else shape[None]
        )
        tall, wide = (side / longer for side in shape.shape[-2:])
        across = (torch.arange(fine * self.width) + 0.5 - fine * self.width / 2) / (fine * unit)
        down = (torch.arange(fine * self.height) + 0.5 - fine * self.height / 2) / (fine * unit)
        u = (across - x[:, None]) / (size[:, None] * wide / 2)  # t w
        v = (down - y[:, None]) / (size[:, None] * tall / 2)  # t h
        grid = torch.stack(torch.broadcast_tensors(u[:, None, :], v[:, :, None]), -1)  # t h w 2
        seen = F.grid_sample(small.expand(len(x), -1, -1, -1), grid, padding_mode="zeros", align_corners=False)
        return F.avg_pool2d(seen, fine).transpose(0, 1)


def _say(motion: str, thing: Thing, choice: Sequence[float]) -> str:
    before = pick(("", "", "a picture, ", "a photograph, ", f"a {thing.name}, "), choice[0])
    return before + pick(find_motion(motion).phrases, choice[1]).format(thing=thing.name)


def _track(moved: Tensor, side: float, place: float) -> Tensor:
    """Where a thing's middle is in each frame, in units from the picture's middle: within the picture from first to last, where there
    is room, and as much as can be where there is none."""
    low, high = float(moved.min()), float(moved.max())
    half = side / 2 - _EDGE * side
    first, last = -half - low, half - high  # of where it may begin
    begins = first + place * (last - first) if first <= last else (first + last) / 2
    return begins + moved
