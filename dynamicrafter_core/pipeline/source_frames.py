"""Frames that are given, and the mask, brought to the clip's size: those that a strength or a mask refers to, or a guide's."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..media.frames import read_clip
from ..media.images import Fit, fit_image, read_image

if TYPE_CHECKING:
    from ..media.images import ImageSource

    FramesSource = str | os.PathLike[str] | Sequence[ImageSource] | Tensor


def list_frames(name: str, given: "FramesSource") -> "Sequence[ImageSource]":
    """The frames of a video file, a folder of pictures, uint8 [T,H,W,3], or any sequence of images."""
    if isinstance(given, (str, os.PathLike)):
        return read_clip(given)
    if isinstance(given, Tensor) and given.dtype == torch.uint8:
        return list(given.cpu().numpy())
    if not hasattr(given, "__len__"):
        raise InputError(f"{name} is {given!r}; give its frames: a video file, a list of images, or uint8 [T,H,W,3].")
    return given  # type: ignore[return-value]


def read_frames(name: str, given: "FramesSource", frames: int, width: int, height: int, fit: Fit) -> Tensor:
    """A video as [T,3,H,W] in [-1,1], if it has as many frames as the clip."""
    images = list_frames(name, given)
    if len(images) != frames:
        raise InputError(f"{name} has {len(images)} frames for a clip of {frames}; give as many as the clip has.")
    return torch.stack([fit_image(read_image(image), width, height, fit) for image in images])


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


def read_brush(name: str, mask: Any, width: int, height: int, fit: Fit) -> Tensor:
    """White where something is, as [height,width] from 0 to 1: any picture, or a tensor [H,W] from 0 to 1."""
    if not isinstance(mask, Tensor):
        values = (read_image(mask).mean(0) + 1) / 2
    else:
        values = mask.detach().to("cpu", torch.float32)
        values = values[0] if values.ndim == 3 and len(values) == 1 else values
    if values.ndim != 2 or not values.numel() or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"{name} has shape {list(values.shape)}; give a picture, or a tensor [H,W] from 0 to 1.")
    return fit_image(values[None], width, height, fit)[0].clamp(0, 1)


def read_flow(flow: Any) -> Any:
    """An array as it is, or that of a .npy file."""
    if not isinstance(flow, (str, os.PathLike)):
        return flow
    try:
        return np.load(flow, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"flow {os.fspath(flow)} does not exist; check the path.") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"flow {os.fspath(flow)} cannot be read ({error}); give a .npy file of numbers.") from error
