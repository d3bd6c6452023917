"""Colours over a joint: a clip that goes on from another one begins with its brightness and contrast."""

import torch
from torch import Tensor

LARGEST_GAIN = 1.5


def match_colour(frames: Tensor, before: Tensor) -> Tensor:
    """uint8 frames [T,H,W,3] after the frame `before` [H,W,3]: each channel of the first gets its mean and contrast.

    The change fades over the clip, whose later frames may show something else.
    """
    pixels = frames.float()
    here, there = pixels[0].flatten(0, 1), before.float().flatten(0, 1)
    gain = (there.std(0) / here.std(0).clamp(min=1)).clamp(1 / LARGEST_GAIN, LARGEST_GAIN)
    changed = (pixels - here.mean(0)) * gain + there.mean(0)
    share = torch.linspace(1, 0, len(frames) + 1)[:-1, None, None, None]
    return (pixels + share * (changed - pixels)).round().clamp(0, 255).to(frames.dtype)
