"""Clips made on the fly: textured scenes that move as their captions say, without end and without a file.

Every clip is made from its split and its number alone. What is drawn for training is never drawn for `held-out` measures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..checks import check_integer
from ..errors import InputError
from .motions import MOTIONS, find_motion, find_motions, rates_of
from .scenes import GROUND, OBJECT, PLAIN, WATER, Scenes, draw_scenes, render
from .seeds import Word, generator

_T = TypeVar("_T")
SPEED = 0.16  # picture widths a second that everything moves; a clip has fs frames a second
_FRONTS = {"object": (OBJECT,), "sky": (GROUND,), "water": (WATER,), "any": (PLAIN, OBJECT, GROUND, WATER)}
_SUBJECTS = {PLAIN: "plain", OBJECT: "object", GROUND: "sky", WATER: "water"}
_PICTURES = {
    PLAIN: ("a colourful pattern", "an abstract painting", "a textured surface"),
    OBJECT: ("a {thing} on a patterned ground", "a picture of a {thing}", "a {thing}"),
    GROUND: ("a landscape under a cloudy sky", "land and sky", "clouds over land"),
    WATER: ("the sea under a wide sky", "waves on the water", "a lake"),
}


@dataclass(frozen=True)
class Clips:
    """A batch as every source of data gives it."""

    pixels: Tensor  # b 3 t h w, -1..1
    captions: list[str]
    fs: Tensor  # b
    strength: float | Tensor = field(default=1.0, kw_only=True)  # b: of the image's tokens, as the clip shows it


@dataclass(frozen=True)
class MovedClips(Clips):
    """Clips whose motion is known."""

    motions: list[str]
    extents: Tensor  # b: how far the last frame has come, in picture widths
    front: Tensor  # b 1 t h w: where the object, ground or water is
    scenes: Scenes

    @property
    def subjects(self) -> list[str]:
        """What may move by itself in each clip, as motions name it."""
        return [_SUBJECTS[front] for front in self.scenes.front.tolist()]


def extents_of(fs: Tensor, frames: int) -> Tensor:
    """How far each frame has come at `fs` frames a second: b -> b t, 0 in the first."""
    return torch.arange(frames) * SPEED / fs.float()[:, None]


def caption(motion: str, front: int, thing: str, choice: Sequence[float]) -> str:
    """One of the ways to say it, by three numbers in 0..1."""
    phrases, pictures = find_motion(motion).phrases, _PICTURES[front]
    phrase = phrases[int(choice[0] * len(phrases))].format(thing=thing)
    picture = pictures[int(choice[1] * len(pictures))].format(thing=thing)
    return (phrase, f"{picture}, {phrase}", f"{phrase}, {picture}")[int(choice[2] * 3)]


class ProceduralClips:
    """A source of clips: `source(split, numbers)` makes those numbers' clips."""

    def __init__(
        self,
        height: int,
        width: int,
        frames: int,
        motions: Sequence[str] = tuple(MOTIONS),
        fs: Sequence[int] = (8, 32),
        seed: int = 0,
        device: torch.device | str = "cpu",
        window_of: int = 0,
        strengths: Sequence[float] = (1.0,),
        first: int = 0,
    ) -> None:
        """`window_of`: pixels; show only the middle of scenes this large, at their speed. 0: all of the scene.

        `strengths`: weights of the image's tokens, one of them for each clip, which moves the less for it, as if its fs were
        so much larger (but never faster than at the smallest fs). `first`: number of the first clip, for a stage that should see
        others than the stages before.
        """
        self.height, self.width, self.frames = height, width, frames
        self.unit = window_of or max(height, width)
        self.motions = [motion.name for motion in find_motions(list(motions))]
        if len(fs) != 2 or not 1 <= fs[0] <= fs[1]:
            raise InputError(f"fs is {list(fs)}; give the smallest and the largest frames per second, as [8, 32].")
        if not strengths or min(strengths) <= 0:
            raise InputError(f"strengths is {list(strengths)}; give weights of the image above 0, as [0.5, 1, 2].")
        self.fs, self.strengths = tuple(fs), tuple(strengths)
        self.seed = check_integer("seed", seed, 0, 2**63 - 1)
        self.first = check_integer("first", first, 0, 2**62)
        self.device = device

    def __call__(self, split: str, numbers: Sequence[int], **given: Any) -> MovedClips:
        """`given`: `motions` (names), `fs` (integers) and `strengths` instead of drawn ones, one for each clip."""
        rows: list[tuple[Word, ...]] = [(self.seed, split, self.first + number) for number in numbers]
        choices = [torch.rand(6, generator=generator(*row, "caption")).tolist() for row in rows]
        motions = given.get("motions") or [self.motions[int(choice[0] * len(self.motions))] for choice in choices]
        slow, fast = self.fs[1], self.fs[0]
        # Even in speed, not in fs: otherwise most clips would hardly move.
        fs = given.get("fs") or [round(1 / (1 / slow + c[1] * (1 / fast - 1 / slow))) for c in choices]
        fronts = [pick(_FRONTS[find_motion(m).subject], c[2]) for m, c in zip(motions, choices, strict=True)]
        scenes = draw_scenes(rows, fronts, self.unit, self.device)
        said = [caption(m, f, t, c[3:]) for m, f, t, c in zip(motions, fronts, scenes.things, choices, strict=True)]
        strengths = given.get("strengths") or [
            pick(self.strengths, float(torch.rand((), generator=generator(*row, "strength")))) for row in rows
        ]
        return self.move(scenes, motions, torch.tensor(fs), said, torch.tensor(strengths))

    def move(
        self,
        scenes: Scenes,
        motions: list[str],
        fs: Tensor,
        captions: list[str],
        strength: float | Tensor = 1.0,
    ) -> MovedClips:
        """These scenes, moved so. The first frame does not depend on the motion."""
        slowed = (fs * strength).maximum(fs.clamp(max=self.fs[0]))
        extents = extents_of(slowed, self.frames)
        pixels, front = render(scenes, rates_of(motions), extents, self.height, self.width, self.unit)
        held = strength.to(self.device) if isinstance(strength, Tensor) else strength
        return MovedClips(pixels, captions, fs.to(self.device), motions, extents[:, -1], front, scenes, strength=held)


def pick(options: Sequence[_T], choice: float) -> _T:
    return options[int(choice * len(options))]
