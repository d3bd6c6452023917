"""Pictures as CLIP's image tower saw them in training: the whole picture squeezed to a square, no crop."""

import torch
from torch import Tensor

from ..errors import InputError

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def preprocess_for_clip(pixels: Tensor, size: int = 224) -> Tensor:
    """Pixels [B,3,H,W] in [-1,1] of any size -> [B,3,size,size], normalised.

    Bicubic with aligned corners, behind a Gaussian when it shrinks: kornia's, because its antialiasing is part of the
    released models' input.
    """
    from kornia.geometry.transform import resize

    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise InputError(f"CLIP's image tower takes [batch, 3, height, width], not {list(pixels.shape)}.")
    square = resize(pixels.float(), (size, size), interpolation="bicubic", align_corners=True, antialias=True)
    mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (MEAN, STD))
    return (((square + 1) / 2 - mean) / std).to(pixels.dtype)
