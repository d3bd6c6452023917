"""Clips of held-out pictures under a setting, beside those of the full run."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.behaviour.subject import Subject
from benchmarks.control.measures import PANS_AND_ZOOMS, change, flicker
from dynamicrafter_core.training import generate
from dynamicrafter_core.training.clips import Clips
from dynamicrafter_core.training.measures import conformity, psnr
from dynamicrafter_core.training.motion_judge import see_motion
from dynamicrafter_core.training.picture_clips import PictureClips

FIRST = 300  # of the held-out pictures


@dataclass(frozen=True)
class Made:
    clips: Tensor  # b 3 t h w
    seconds: float  # of CPU time, a clip: of the sampling, without encoders and decoder


@dataclass
class Bench:
    subject: Subject
    count: int
    given: list[Clips] = field(init=False)

    def __post_init__(self) -> None:
        model = self.subject
        source = PictureClips(
            model.model.family.height, model.model.family.width, model.frames, fs=model.fs_range, pack=model.pack
        )
        self.given = []
        for start in range(0, self.count, model.batch):
            numbers = range(start, min(start + model.batch, self.count))
            motions = [PANS_AND_ZOOMS[number % len(PANS_AND_ZOOMS)] for number in numbers]
            numbers = range(FIRST + start, FIRST + start + len(motions))
            self.given.append(source("held-out", numbers, motions=motions, fs=[model.fs] * len(motions)))

    @property
    def pictures(self) -> Tensor:
        return torch.cat([clips.pixels[:, :, 0] for clips in self.given])

    def make(self, given: Clips, within: AbstractContextManager | None = None, **dials: object) -> Made:
        seconds = 0.0

        def timed(*args: Any, **named: Any) -> Tensor:
            nonlocal seconds
            began = time.process_time()
            made = sample(*args, **named)
            seconds += time.process_time() - began
            return made

        with within or nullcontext():
            sample = generate.sample_ddim
            with patch.object(generate, "sample_ddim", timed):
                made = self.subject.make(given, **dials)
        return Made(made, seconds / len(made))

    def in_turns(self, settings: Sequence[dict[str, object]]) -> list[Made]:
        """All settings on each batch before the next batch, so that a machine that slows down slows all of them."""
        turns = [[self.make(given, **dials) for dials in settings] for given in self.given]
        return [
            Made(torch.cat([made.clips for made in each]), sum(made.seconds for made in each) / len(each))
            for each in zip(*turns, strict=True)
        ]


def moves_as_said(clips: Tensor) -> float:
    """The share of clips that the judge of motion sees move as their caption says; the motions come in turn."""
    seen = see_motion(clips, motions=("still", *PANS_AND_ZOOMS))
    right = [one.motion == PANS_AND_ZOOMS[number % len(PANS_AND_ZOOMS)] for number, one in enumerate(seen)]
    return sum(right) / len(right)


def scores(made: Made, exact: Made, pictures: Tensor) -> list[str]:
    """Speedup; likeness to the full run; and what the clip does: motion, change and flicker from frame to frame, likeness to the picture."""
    error = psnr(made.clips, exact.clips)
    told = "" if made is exact else f"{float(error.mean()):.1f} ({float(error.min()):.1f})"
    return [
        f"{exact.seconds / made.seconds:.2f} x",
        told,
        f"{moves_as_said(made.clips):.0%}",
        f"{change(made.clips):.2f}",
        f"{flicker(made.clips):.2f}",
        f"{float(conformity(made.clips, pictures).mean()):.3f}",
    ]


HEADER = ["speedup", "PSNR to exact, dB (worst clip)", "moves as the prompt says", "change", "flicker", "likeness"]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows)) + "\n"
