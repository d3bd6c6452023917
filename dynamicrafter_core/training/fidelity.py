"""How much of a real picture is left at the end of a clip: the last frame beside what the first frame says it must be.

The still is larger than the frame, so the true last frame can be filmed however far the clip's camera came; the nearest of some extents
is taken, for a clip may be a little faster or slower than fs says. Only what the first frame shows is compared.
"""

from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from .camera import look
from .motions import RATES, rates_of
from .picture_clips import FilmedClips, Shot

_PACES = torch.linspace(0.4, 1.6, 25)  # of the extent that fs asks for
_COVERED = 0.02  # opacity from which a pixel belongs to the thing in front


@dataclass(frozen=True)
class Kept:
    psnr: float  # dB
    detail: float  # energy of the gradients, of the true frame's
    drift: float  # of the mean colour, in 255ths, the mean of the three channels
    pace: float  # how far the camera came, of what fs asks for


def keep(made: Tensor, clips: FilmedClips) -> list[Kept]:
    """Clips made from the first frames of `clips`, [B,3,T,H,W] in -1..1."""
    rows = zip(made.float().cpu(), clips.motions, clips.extents.tolist(), clips.shots, strict=True)
    return [_kept(clip[:, -1], rates_of([motion])[0], extent, shot) for clip, motion, extent, shot in rows]


def _kept(last: Tensor, rates: Tensor, extent: float, shot: Shot) -> Kept:
    height, width = last.shape[-2:]
    extents = extent * _PACES
    true = shot.film(rates, extents, height, width)  # 3 p h w
    known = _known(rates, extents, height, width, shot.window_of).float()  # p h w
    count = known.sum((1, 2)).clamp(min=1)
    errors = (((true - last[:, None]) ** 2).mean(0) * known).sum((1, 2)) / count  # p
    best = int(errors.argmin())
    mask = known[best]
    difference = ((last - true[:, best]) * mask).sum((1, 2)) / count[best]
    detail = gradient_energy(last, mask) / max(gradient_energy(true[:, best], mask), 1e-9)
    psnr = 10 * torch.log10(4 / errors[best].clamp(min=1e-10))
    return Kept(float(psnr), detail, float(difference.abs().mean()) * 127.5, float(_PACES[best]))


def _known(rates: Tensor, extents: Tensor, height: int, width: int, window_of: int = 0) -> Tensor:
    """Which pixels of each frame show what the first frame shows: t h w."""
    change = dict(zip(RATES, (rates[:, None] * extents)[:, :, None, None].unbind(0), strict=True))
    unit = window_of or max(height, width)
    x, y = look(change, height, width, unit)
    return (x.abs() <= width / unit / 2) & (y.abs() <= height / unit / 2)


def gradient_energy(picture: Tensor, mask: Tensor) -> float:
    """Mean square of the differences of neighbouring pixels, 3 h w, where `mask` h w holds both."""
    total = 0.0
    for axis in (-1, -2):
        size = picture.shape[axis] - 1
        both = mask.narrow(axis, 0, size) * mask.narrow(axis, 1, size)
        total += float((picture.diff(dim=axis) ** 2 * both).sum() / both.sum().clamp(min=1))
    return total


def detail_of(made: Tensor, true: Tensor) -> float:
    """Gradient energy of pictures N 3 h w, of the true ones': the median."""
    whole = torch.ones(made.shape[-2:])
    pairs = zip(made.float().cpu(), true.float().cpu(), strict=True)
    return median(gradient_energy(a, whole) / max(gradient_energy(b, whole), 1e-9) for a, b in pairs)


def rest_of(made: Tensor, first: Tensor, front: Tensor) -> list[float]:
    """How much stands still, in dB: the last frames of clips [B,3,T,H,W] beside the picture they began as [B,3,H,W], where nothing of
    `front` [B,1,T,H,W] ever is."""
    rest = (front.amax(2) < _COVERED).float().cpu()  # b 1 h w
    errors = ((made[:, :, -1].float().cpu() - first.float().cpu()) ** 2 * rest).mean(1).sum((1, 2))
    errors = errors / rest.sum((1, 2, 3)).clamp(min=1)
    return (10 * torch.log10(4 / errors.clamp(min=1e-10))).tolist()
