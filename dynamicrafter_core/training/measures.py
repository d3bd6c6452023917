"""How alike pictures are: PSNR, and a perceptual distance made of what edges and patches look like at several scales."""

import torch
from torch import Tensor
from torch.nn import functional as F

_PATCH = 7
_C1, _C2 = 0.01**2, 0.03**2


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Decibels, of pixels in -1..1; one number for each along the first axis."""
    error = ((a.float() - b.float()) ** 2).flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp(min=1e-10))


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """SSIM (Wang et al. 2004) over three scales, of pictures [N,3,H,W] in -1..1: 1 the same, 0 nothing in common; n."""
    a, b = (a.float() + 1) / 2, (b.float() + 1) / 2
    scores = []
    for _ in range(3):
        scores.append(_ssim(a, b))
        if min(a.shape[-2:]) < 2 * _PATCH + 2:
            break
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return torch.stack(scores).mean(0)


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, _PATCH, 1)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    both = mean(a * b) - mean_a * mean_b
    score = (2 * mean_a * mean_b + _C1) * (2 * both + _C2) / ((mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2))
    return score.flatten(1).mean(1)


def conformity(clips: Tensor, pictures: Tensor) -> Tensor:
    """PIC (perceptual input conformity): mean over frames of 1 - D(input picture, frame); clips [B,3,T,H,W] -> b.

    The paper's D is learned (DreamSim); here it is (1 - similarity) / 2, which needs no weights.
    """
    frames = clips.transpose(1, 2)  # b t 3 h w
    rows = pictures[:, None].expand_as(frames).flatten(0, 1)
    return ((1 + similarity(frames.flatten(0, 1), rows)) / 2).unflatten(0, frames.shape[:2]).mean(1)


def nearest_frame(clips: Tensor, pictures: Tensor) -> Tensor:
    """Which frame of each clip is most like its picture: b. A model may put the picture anywhere in the clip."""
    return ((clips - pictures[:, :, None]) ** 2).mean((1, 3, 4)).argmin(1)


def perceptual_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Differences of edges at three scales, beside those of pixels: without it an autoencoder blurs."""
    total = made.new_zeros(())
    for _ in range(3):
        for axis in (-1, -2):
            total = total + (made.diff(dim=axis) - wanted.diff(dim=axis)).abs().mean()
        made, wanted = F.avg_pool2d(made, 2), F.avg_pool2d(wanted, 2)
    return total / 6
