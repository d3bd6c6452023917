"""Several pictures in a row, each at its own frame: the ways between them, of any length, by a model that interpolates.

A model fills as many frames as it was trained on. A shorter way takes its frames evenly from that; a longer one is filled coarsely first, and
then between frames of the coarse clip.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..checks import check_integer, check_number
from ..errors import InputError

if TYPE_CHECKING:
    from .clip import Clip

MOST = 100_000  # frames of a clip


@dataclass(frozen=True)
class Keyframe:
    """A picture at a frame. `strength`: in which share of the run its detail is shown to the model."""

    image: Any  # as the maker of clips takes it
    frame: int
    strength: float = 1.0


def between(make: Callable[[Keyframe, Keyframe], Tensor], first: Keyframe, last: Keyframe, most: int) -> Tensor:
    """All frames [n,H,W,3] from one keyframe to the other, both included; `make` fills `most` frames at once."""
    clip, gap = make(first, last), last.frame - first.frame
    if gap < most:
        return clip[torch.linspace(0, most - 1, gap + 1).round().long()]
    pieces = min(math.ceil(gap / (most - 1)), most - 1)
    while True:
        chosen = [round(k * (most - 1) / pieces) for k in range(pieces + 1)]  # frames of the coarse clip
        cuts = [round(index * gap / (most - 1)) for index in chosen]  # where they stand on the way
        if pieces >= most - 1 or max(b - a for a, b in zip(cuts, cuts[1:], strict=False)) < most:
            break
        pieces += 1
    inner = [Keyframe(clip[j], first.frame + cut) for j, cut in list(zip(chosen, cuts, strict=True))[1:-1]]
    ends = [first, *inner, last]
    ways = [between(make, here, there, most) for here, there in zip(ends, ends[1:], strict=False)]
    return torch.cat([ways[0], *(way[1:] for way in ways[1:])])


def check_keyframes(given: Sequence[Keyframe]) -> list[Keyframe]:
    """In order of their frames, the first at frame 0."""
    if len(given) < 2:
        raise InputError(f"there {'is 1 keyframe' if given else 'are no keyframes'}; give two or more.")
    for each in given:
        check_integer("a keyframe's frame", each.frame, 0, MOST)
        check_number("a keyframe's strength", each.strength, 0, 1)
    ordered = sorted(given, key=lambda each: each.frame)
    for here, there in zip(ordered, ordered[1:], strict=False):
        if here.frame == there.frame:
            raise InputError(f"two keyframes are at frame {here.frame}; give each its own.")
    if ordered[0].frame:
        raise InputError(f"the first keyframe is at frame {ordered[0].frame}; give one at frame 0.")
    return ordered


def check_prompts(prompts: str | Sequence[str], ways: int) -> list[str]:
    """One for all ways, or one for each."""
    listed = [prompts] if isinstance(prompts, str) else list(prompts)
    if len(listed) not in (1, ways) or not all(isinstance(each, str) for each in listed):
        raise InputError(
            f"there are {len(listed)} prompts for {ways} stretches between keyframes; give one, or {ways}."
        )
    return listed * ways if len(listed) == 1 else listed


def fill(
    interpolate: "Callable[..., Clip]",
    keyframes: Sequence[Keyframe],
    prompts: str | Sequence[str],
    most: int,
    seed: int,
    options: dict[str, Any],
) -> "Clip":
    """The clip from the first keyframe to the last; every clip on the way has a seed of its own, from `seed` on."""
    ordered = check_keyframes(keyframes)
    told = check_prompts(prompts, len(ordered) - 1)
    made: list[Clip] = []
    ways: list[Tensor] = []
    for here, there, prompt in zip(ordered, ordered[1:], told, strict=False):

        def make(first: Keyframe, last: Keyframe, prompt: str = prompt) -> Tensor:
            asked = {**options, "frames": most, "seed": seed + len(made)}
            if made:
                asked |= dict(zip(("height", "width"), made[0].frames.shape[1:3], strict=True))
            if (first.strength, last.strength) != (1, 1):
                asked["picture_strengths"] = (first.strength, last.strength)
            made.append(interpolate(_picture(first), _picture(last), prompt, **asked))
            return made[-1].frames

        way = between(make, here, there, most)
        ways.append(way[1:] if ways else way)
    first = made[0]
    seconds = {stage: sum(clip.seconds.get(stage, 0.0) for clip in made) for stage in first.seconds}
    about = {"prompt": told, "seed": seed, "keyframes": [[each.frame, each.strength] for each in ordered]}
    peak = max(clip.peak_memory for clip in made)
    settings = {**first.settings, **about, "frames": ordered[-1].frame + 1}
    return replace(first, frames=torch.cat(ways), settings=settings, seconds=seconds, latents=None, peak_memory=peak)


def _picture(keyframe: Keyframe) -> Any:
    """A frame of a coarse clip as a picture that the pipeline reads."""
    frame = keyframe.image
    return frame.numpy() if isinstance(frame, Tensor) and frame.dtype == torch.uint8 else frame
