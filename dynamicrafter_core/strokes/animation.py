"""The crude animation that a sampling run is led by: what moves is cut out and laid over a filled background.

As in Time-to-Move (Singer et al. 2025), whose user cuts and drags by hand. What moves is splatted forward, so that it stays on top and
takes nothing else along; where it was, the picture is filled from around by a pyramid (push-pull, Gortler et al. 1996), so that no
second copy stays behind. Where a camera moves, all of the picture does, and it is looked up as the camera sees it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..diffusion.noise_path import NoisePath
from .flow import Moves

MOST_FINER = 4  # samples to a pixel, each way
COVERED = 0.4  # of a pixel, from which on it counts as whole: a layer that grows is not to become see-through


@dataclass(frozen=True)
class Animation:
    frames: Tensor  # t 3 h w
    cover: Tensor  # t h w: where what moves is, 0 to 1
    left: Tensor  # h w: where it was
    came: Tensor  # t 2 h w: how far what is there has come, x and y


def animate_layer(picture: Tensor, moves: Moves) -> Animation:
    """A picture [3,h,w] and how far its pixels come -> what that looks like; the first frame is the picture if nothing has moved yet."""
    layer = moves.layer
    ground = picture * (1 - layer) + fill(picture, 1 - widen(layer)) * layer
    frames, covers, came = [], [], []
    for flow in moves.flow:
        colour, cover, shift = splat(picture, layer, flow)
        frames.append(colour * cover + (1 - cover) * ground if flow.any() else picture)
        covers.append(cover)
        came.append(shift)
    return Animation(torch.stack(frames), torch.stack(covers), layer, torch.stack(came))


def animate_view(picture: Tensor, path: NoisePath, frames: int) -> tuple[Tensor, Tensor]:
    """What a camera sees of a picture [3,h,w] along its path, [t,3,h,w], and where the picture reaches, [t,h,w]; beyond it is mirrored."""
    looks = torch.stack(path.looks(frames, *picture.shape[1:]))  # t 2 h w
    size = torch.tensor(picture.shape[1:])[:, None, None]
    grid = (looks * 2 / size - 1).flip(1).movedim(1, -1)  # x y, from -1 to 1
    stands = [share == 0 for share in path.progress(frames)]
    views = F.grid_sample(picture.expand(frames, -1, -1, -1), grid, "bicubic", "reflection", align_corners=False)
    views = torch.where(torch.tensor(stands)[:, None, None, None], picture, views.clamp(-1, 1))
    return views, (grid.abs().amax(-1) <= 1).float()


def widen(layer: Tensor) -> Tensor:
    """By a thirty-second of the shorter side, so that a fill sees nothing of the thing's own rim."""
    grown = max(1, round(min(layer.shape) / 32))
    return F.max_pool2d(layer[None, None], 2 * grown + 1, 1, grown)[0, 0]


def fill(picture: Tensor, known: Tensor) -> Tensor:
    """[3,h,w] with what is not known (0) filled from around: means of what is known, coarser the farther it is."""
    height, width = known.shape
    side = 2 ** math.ceil(math.log2(max(height, width)))
    weighed = F.pad(torch.cat([picture * known, known[None]]), (0, side - width, 0, side - height))[None]
    levels = [weighed]
    while levels[-1].shape[-1] > 1:
        levels.append(F.avg_pool2d(levels[-1], 2))
    filled = levels[-1][:, :3] / levels[-1][:, 3:].clamp(min=1e-6)
    for level in reversed(levels[:-1]):
        weight = level[:, 3:]
        own = level[:, :3] / weight.clamp(min=1e-6)
        coarse = F.interpolate(filled, scale_factor=2, mode="bilinear", align_corners=False)
        filled = weight * own + (1 - weight) * coarse
    return filled[0, :, :height, :width]


def splat(picture: Tensor, layer: Tensor, flow: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What moves, where it comes to lie: its colours [3,h,w], how much it covers [h,w], and how far it came [2,h,w]."""
    height, width = layer.shape
    stretch = min(MOST_FINER, _stretch(flow, layer))
    finer = math.ceil(stretch - 0.5)
    given = torch.cat([picture, flow, layer[None]])[None]
    if finer > 1:
        given = F.interpolate(given, scale_factor=finer, mode="bilinear", align_corners=False)
    values, (shift_x, shift_y), weight = given[0, :5], given[0, 3:5], given[0, 5]
    y, x = torch.meshgrid(torch.arange(height * finer), torch.arange(width * finer), indexing="ij")
    chosen = weight > 0
    across = ((x + 0.5) / finer - 0.5 + shift_x)[chosen]
    down = ((y + 0.5) / finer - 0.5 + shift_y)[chosen]
    rows = torch.cat([values[:, chosen] * weight[chosen], weight[chosen][None], torch.ones_like(across)[None]])
    total = torch.zeros(len(rows), height * width)
    for right in (0, 1):
        for below in (0, 1):
            column, row = across.floor() + right, down.floor() + below
            share = (1 - (across - column).abs()) * (1 - (down - row).abs()) / finer**2
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            at = (row * width + column)[inside].long()
            total.index_add_(1, at, (rows * share)[:, inside])
    total = total.view(-1, height, width)
    moved, hits = total[5], total[6]
    cover = moved / hits.clamp(min=1e-6) * (hits * stretch**2 / COVERED).clamp(max=1)
    return total[:3] / moved.clamp(min=1e-6), cover, total[3:5] / moved.clamp(min=1e-6)


def _stretch(flow: Tensor, layer: Tensor) -> float:
    """How far apart neighbouring pixels of what moves come at most; 1: it moves as a whole."""
    inside, most = layer > 0, 0.0
    for side in (0, 1):
        if layer.shape[side] > 1:
            before, after = (inside.narrow(side, start, layer.shape[side] - 1) for start in (0, 1))
            apart = flow.diff(dim=side + 1).abs().amax(0) * (before & after)
            most = max(most, float(apart.max()))
    return 1 + most
