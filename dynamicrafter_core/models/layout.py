"""The two layouts of a video latent inside the UNet, and what several guidance branches share.

Spatial layers see `frames`, (b t) c h w; temporal layers see a `volume`, b c t h w. On channels-last memory both are views of
the same numbers, so moving between them costs nothing; that is why the UNet runs channels-last where convolutions like it.
"""

from einops import rearrange
from torch import Tensor


def to_volume(frames: Tensor, count: int) -> Tensor:
    """A clip for every `count` frames."""
    return rearrange(frames, "(b t) c h w -> b c t h w", t=count)


def to_frames(volume: Tensor) -> Tensor:
    return rearrange(volume, "b c t h w -> (b t) c h w")


def repeat_rows(x: Tensor, rows: int) -> Tensor:
    """Give every guidance branch its copy of `x`: n ... -> rows ..., branch after branch."""
    return x if x.shape[0] == rows else x.repeat(rows // x.shape[0], *[1] * (x.ndim - 1))
