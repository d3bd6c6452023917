"""Colours of a clip held to those of another one: a gain and an offset for each channel, kept small."""

from torch import Tensor

LARGEST_GAIN = 1.25


def match_colour(frames: Tensor, seen: Tensor, wanted: Tensor, share: float = 1.0) -> Tensor:
    """uint8 frames [T,H,W,3], changed as `seen` would have to be to have the mean and the contrast of `wanted`.

    `seen` and `wanted` [n,H,W,3] show the same thing: `seen` as it came out, `wanted` as it should have. `share` of the way.
    """
    here, there = (values.float().flatten(0, 2) for values in (seen, wanted))
    gain = (there.std(0) / here.std(0).clamp(min=1)).clamp(1 / LARGEST_GAIN, LARGEST_GAIN)
    gain = 1 + share * (gain - 1)
    offset = share * (there.mean(0) - here.mean(0)) + (1 - gain) * here.mean(0)
    return (frames.float() * gain + offset).round().clamp(0, 255).to(frames.dtype)
