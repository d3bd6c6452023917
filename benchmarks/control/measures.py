"""Clips of held-out pictures under a control, beside the same clips without one, in figures."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from benchmarks.behaviour.subject import Subject
from dynamicrafter_core.training.clips import Clips
from dynamicrafter_core.training.measures import conformity
from dynamicrafter_core.training.picture_clips import PictureClips

PANS_AND_ZOOMS = ("pan_left", "pan_right", "pan_up", "pan_down", "zoom_in", "zoom_out")


@dataclass(frozen=True)
class Row:
    control: str
    paper: str
    effect: str
    cost: float  # times the CPU time of the same clips without it


@dataclass
class Bench:
    subject: Subject
    count: int  # clips under each setting
    cases: int  # camera paths
    clips: Clips = field(init=False)

    def __post_init__(self) -> None:
        model = self.subject
        self.source = PictureClips(
            model.model.family.height, model.model.family.width, model.frames, fs=model.fs_range, pack=model.pack
        )
        names = [PANS_AND_ZOOMS[number % len(PANS_AND_ZOOMS)] for number in range(self.count)]
        self.clips = self.pictures(0, names)
        self.make(steps=1)  # the first run pays for what later ones find ready

    @cached_property
    def seconds(self) -> float:
        """CPU time of a clip without a control."""
        return self.make()[1]

    def pictures(self, first: int, motions: Sequence[str]) -> Clips:
        """Held-out pictures, whose captions tell these motions."""
        numbers = range(first, first + len(motions))
        return self.source("held-out", numbers, motions=list(motions), fs=[self.subject.fs] * len(motions))

    def make(self, clips: Clips | None = None, **dials: Any) -> tuple[Tensor, float]:
        """Clips, and the CPU time that one of them took."""
        clips = self.clips if clips is None else clips
        began = time.process_time()
        made = self.subject.make(clips, **dials)
        return made, (time.process_time() - began) / len(made)

    def series(self, dials: Sequence[dict[str, Any]]) -> "Series":
        made = [self.make(**each) for each in dials]
        pictures = self.clips.pixels[:, :, 0]
        return Series(
            [change(clips) for clips, _ in made],
            [flicker(clips) for clips, _ in made],
            [float(conformity(clips, pictures).mean()) for clips, _ in made],
            [seconds / self.seconds for _, seconds in made],
        )


@dataclass(frozen=True)
class Series:
    """One figure for each setting."""

    change: list[float]
    flicker: list[float]
    likeness: list[float]
    cost: list[float]


def silent(clips: Clips) -> Clips:
    return replace(clips, captions=[""] * len(clips.captions))


def change(clips: Tensor) -> float:
    """Mean square of what changes from frame to frame, in thousandths: how much moves."""
    return 1000 * float((clips.diff(dim=2) ** 2).mean())


def flicker(clips: Tensor) -> float:
    """The same of what changes and changes back: steady motion has little of it."""
    return 1000 * float((clips.diff(dim=2).diff(dim=2) ** 2).mean())


def sharpness(frames: Tensor, pictures: Tensor) -> float:
    """How much neighbouring pixels of frames [B,3,H,W] differ, beside those of the pictures: 1 is as sharp."""
    return sum(
        float(frames.diff(dim=side).abs().mean() / pictures.diff(dim=side).abs().mean()) / 2 for side in (-2, -1)
    )


def likeness_in_decibels(frames: Tensor, pictures: Tensor) -> float:
    """PSNR of pixels in -1..1, mean over the frames."""
    return float((-10 * (((frames - pictures) ** 2).mean((1, 2, 3)) / 4).log10()).mean())


def listed(values: Sequence[float], digits: int = 2) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def monotone(values: Sequence[float]) -> str:
    pairs = list(zip(values, values[1:], strict=False))
    for word, right in (("rises", lambda a, b: b > a), ("falls", lambda a, b: b < a)):
        if all(right(a, b) for a, b in pairs):
            return word
    return "not monotonic"


def at_equal(value: float, along: Sequence[float], wanted: Sequence[float]) -> float | None:
    """`wanted` where `along`, which goes one way, passes `value`; between two settings linear."""
    for (a, b), (c, d) in zip(zip(along, along[1:], strict=False), zip(wanted, wanted[1:], strict=False), strict=True):
        if min(a, b) <= value <= max(a, b) and a != b:
            return c + (value - a) / (b - a) * (d - c)
    return None


Measure = Callable[[Bench], list[Row]]
