"""IMAGE batches to pictures of the size of a video."""

import torch
from torch import Tensor

from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.media.images import Fit, fit_image


def to_signed(images: Tensor) -> Tensor:
    """IMAGE [N,H,W,3 or 4] in [0,1] -> [N,3,H,W] in [-1,1]; what is transparent fades to mid-grey."""
    pixels = 2 * images[..., :3] - 1
    if images.shape[-1] == 4:
        pixels = pixels * images[..., 3:]
    return pixels.movedim(-1, 1).float()


def on_paper(images: Tensor, paper: float) -> Tensor:
    """IMAGE [N,H,W,3 or 4] in [0,1] -> [N,3,H,W] in [-1,1]; what is transparent is `paper`."""
    pixels = 2 * images[..., :3] - 1
    if images.shape[-1] == 4:
        pixels = paper + (pixels - paper) * images[..., 3:]
    return pixels.movedim(-1, 1).float()


def size_in_pixels(latent: Tensor, cell: int) -> str:
    """Of what a latent [..., h, w] decodes to: `cell` pixels a side for each of its values."""
    height, width = latent.shape[-2:]
    return f"{cell * width}x{cell * height}"


def fit(images: Tensor, width: int, height: int, how: Fit) -> Tensor:
    """IMAGE [N,H,W,C] -> IMAGE [N,height,width,3]"""
    fitted = torch.stack([fit_image(picture, width, height, how) for picture in to_signed(images)])
    return ((fitted + 1) / 2).movedim(1, -1).clamp(0, 1)


def check_finite(latents: Tensor) -> None:
    """As pixels NaN would be black, and nobody would know why."""
    if not latents.isfinite().all():
        raise InputError(
            "The video's latents hold NaN or infinity. The cause is a weight in a prompt, a LoRA or another patch of "
            "the model, or a weight_dtype too narrow for the model: rule them out one by one."
        )
