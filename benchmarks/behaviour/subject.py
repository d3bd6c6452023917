"""The model under measurement, and the held-out pictures and prompts that it is measured on."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from dynamicrafter_core.diffusion.reuse import EXACT, Speed
from dynamicrafter_core.training.clips import Clips, MovedClips, ProceduralClips
from dynamicrafter_core.training.evaluate import opposite_captions
from dynamicrafter_core.training.generate import Dials, decode, generate, picture_latents
from dynamicrafter_core.training.lora import merge_lora
from dynamicrafter_core.training.measures import nearest_frame
from dynamicrafter_core.training.model import Model, load_model
from dynamicrafter_core.training.motion_judge import Seen, see_motion
from dynamicrafter_core.training.motions import MOTIONS


@dataclass(frozen=True)
class Row:
    point: str  # of the list
    what: str
    value: float
    wanted: str = ""
    right: bool | None = None


def least(point: str, what: str, value: float, least: float) -> Row:
    return Row(point, what, value, f">= {least:g}", value >= least)


def at_most(point: str, what: str, value: float, most: float) -> Row:
    return Row(point, what, value, f"<= {most:g}", value <= most)


@dataclass
class Subject:
    """`count` pairs of picture and prompt; the same numbers always mean the same pairs."""

    path: Path
    device: torch.device
    dtype: torch.dtype
    count: int
    batch: int
    motions: Sequence[str] = ()  # none: those it was taught
    steps: int | None = None  # None, here and below: the model's own
    cfg: float | None = None
    split: str = "held-out"
    speed: Speed = EXACT
    pack: str = ""  # of real pictures; empty: the one in the cache
    lora: Path | None = None
    eta: float = Dials.eta
    model: Model = field(init=False)
    dials: Dials = field(init=False)

    def __post_init__(self) -> None:
        self.model = load_model([self.path], self.device, self.dtype)
        if self.lora:
            merge_lora(self.model, self.lora)
        family = self.model.family
        scale = family.cfg if self.cfg is None else self.cfg
        self.dials = Dials(steps=self.steps or family.steps, text_scale=scale, eta=self.eta, speed=self.speed)
        self.motions = self.motions or taught_motions(self.path)
        self.frames, self.fs = family.frames, family.fs_default or 12
        self.fs_range = family.fs_range or (8, 32)
        self.source = ProceduralClips(
            family.height, family.width, family.frames, list(self.motions), self.fs_range, 0, self.device
        )

    def clips(self, first: int, count: int, motions: Sequence[str] | None = None, fs: int | None = None) -> MovedClips:
        """Held-out clips of these motions in turn, at the model's usual fs."""
        names = motions or self.motions
        chosen = [names[number % len(names)] for number in range(first, first + count)]
        return self.source(self.split, range(first, first + count), motions=chosen, fs=[fs or self.fs] * count)

    def make(self, clips: Clips, last: Tensor | None = None, fs: Tensor | None = None, **dials: object) -> Tensor:
        """What the model makes of their first frames and captions."""
        chosen = replace(self.dials, **dials)  # type: ignore[arg-type]
        rows = range(0, len(clips.captions), self.batch)
        made = [
            generate(
                self.model,
                clips.pixels[row : row + self.batch, :, 0],
                clips.captions[row : row + self.batch],
                (clips.fs if fs is None else fs)[row : row + self.batch],
                self.frames,
                replace(chosen, seed=chosen.seed + row, **_rows(chosen, slice(row, row + self.batch))),
                None if last is None else last[row : row + self.batch],
            )
            for row in rows
        ]
        return torch.cat(made)

    def see(self, made: Tensor, clips: MovedClips) -> list[Seen]:
        anchor = nearest_frame(made, clips.pixels[:, :, 0])
        return see_motion(made, anchor, clips.front[:, :, 0], clips.subjects, self.motions)


def _rows(dials: Dials, rows: slice) -> dict[str, Tensor]:
    pictures = {"negative": dials.negative, "references": dials.references}
    return {name: given[rows] for name, given in pictures.items() if given is not None}


def round_trip(subject: Subject, pictures: Tensor) -> Tensor:
    """Through the autoencoder and back."""
    return decode(subject.model, picture_latents(subject.model, pictures)[:, :, None])[:, :, 0]


def taught_motions(path: Path) -> list[str]:
    """The kinds of motion in the recipe that a trained file carries; all there are where it carries none."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        recipe = json.loads((file.metadata() or {}).get("recipe", "{}"))
    return list(recipe.get("data", {}).get("motions", MOTIONS))


def agreement(seen: Sequence[Seen], wanted: Sequence[str]) -> float:
    return sum(one.motion == motion for one, motion in zip(seen, wanted, strict=True)) / len(seen)


def turned(clips: MovedClips) -> MovedClips:
    """The same pictures under the opposite prompts."""
    opposite = [MOTIONS[motion].opposite or motion for motion in clips.motions]
    return replace(clips, captions=opposite_captions(clips), motions=opposite)


def tell(line: str, started: float | None = None) -> None:
    sys.stderr.write(line + (f" ({time.monotonic() - started:.0f} s)" if started else "") + "\n")
