"""The frames that a strength or a mask refers to, and the mask, brought to the clip's size."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..media.images import Fit, fit_image, read_image

if TYPE_CHECKING:
    from ..media.images import ImageSource


def read_frames(original: "Sequence[ImageSource] | Tensor", frames: int, width: int, height: int, fit: Fit) -> Tensor:
    """A video as [T,3,H,W] in [-1,1]: uint8 frames [T,H,W,3], or any sequence of images."""
    if isinstance(original, Tensor) and original.dtype == torch.uint8:
        original = list(original.cpu().numpy())
    if isinstance(original, (str, os.PathLike)) or not hasattr(original, "__len__"):
        raise InputError(f"original is {original!r}; give its frames: a list of images, or uint8 [T,H,W,3].")
    if len(original) != frames:
        raise InputError(f"original has {len(original)} frames for a clip of {frames}; give as many as the clip has.")
    return torch.stack([fit_image(read_image(image), width, height, fit) for image in original])


def read_mask(mask: Any, frames: int, width: int, height: int, fit: Fit, factor: int) -> Tensor:
    """1 to keep and 0 to make new, as [1,1,T or 1,h,w] for latents of a `factor`th of the size.

    [T] marks whole frames, [H,W] or an image file (white keeps) the same places in all frames, [T,H,W] both.
    """
    if isinstance(mask, (str, os.PathLike)):
        values = (read_image(mask).mean(0) + 1) / 2
    else:
        values = torch.as_tensor(mask, dtype=torch.float32, device="cpu")
    if values.ndim == 1:
        values = values[:, None, None].expand(-1, height, width)
    elif values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or len(values) not in (1, frames) or not ((values >= 0) & (values <= 1)).all():
        raise InputError(
            f"mask has shape {list(values.shape)} and values from {values.min():g} to {values.max():g}; give "
            f"[{frames}], [H,W] or [{frames},H,W] from 0 (make new) to 1 (keep)."
        )
    fitted = fit_image(values, width, height, fit).clamp(0, 1)
    return F.avg_pool2d(fitted, factor)[None, None]  # an edge inside a latent pixel keeps its share
