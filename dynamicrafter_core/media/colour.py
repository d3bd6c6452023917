"""Colours of a clip that goes on from another one: as the frame before has them, or as a first picture has them throughout."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError

Match = Literal["joint", "first", "off"]
MATCHES: tuple[Match, ...] = get_args(Match)
LARGEST_GAIN = 1.5


def check_match(match: Any) -> Match:
    """True and False mean "joint" and "off"."""
    if isinstance(match, bool):
        return "joint" if match else "off"
    if match not in MATCHES:
        raise InputError(f"match is {match!r}; give {', '.join(MATCHES)}.")
    return match


def continue_colour(frames: Tensor, match: Match, before: Tensor, picture: Tensor) -> Tensor:
    """uint8 frames [T,H,W,3] behind the frame `before`, in a chain of clips that began with `picture`."""
    if match == "joint":
        return match_colour(frames, before)
    return hold_colour(frames, before, picture) if match == "first" else frames


def match_colour(frames: Tensor, before: Tensor) -> Tensor:
    """uint8 frames [T,H,W,3] after the frame `before` [H,W,3]: each channel of the first gets its mean and contrast.

    The change fades over the clip, whose later frames may show something else.
    """
    share = torch.linspace(1, 0, len(frames) + 1)[:-1, None, None, None]
    return _toned(frames, _spread(frames[:1]), _spread(before[None]), share)


def hold_colour(frames: Tensor, before: Tensor, picture: Tensor) -> Tensor:
    """Every frame gets a mean and a contrast on the way from those of `before` to those of `picture` [H,W,3].

    So there is no step at the joint, and at the end of the clip nothing has drifted. For scenes whose light does not change.
    """
    share = torch.linspace(0, 1, len(frames) + 1)[1:, None, None, None]
    wanted = [
        there + share * (end - there) for there, end in zip(_spread(before[None]), _spread(picture[None]), strict=True)
    ]
    return _toned(frames, _spread(frames), (wanted[0], wanted[1]), torch.ones(1))


def _spread(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and contrast of each frame's channels, [T,1,1,3]."""
    pixels = frames.float().flatten(1, 2)
    return pixels.mean(1)[:, None, None], pixels.std(1)[:, None, None]


def _toned(frames: Tensor, here: tuple[Tensor, Tensor], there: tuple[Tensor, Tensor], share: Tensor) -> Tensor:
    pixels = frames.float()
    gain = (there[1] / here[1].clamp(min=1)).clamp(1 / LARGEST_GAIN, LARGEST_GAIN)
    changed = (pixels - here[0]) * gain + there[0]
    return (pixels + share * (changed - pixels)).round().clamp(0, 255).to(frames.dtype)
