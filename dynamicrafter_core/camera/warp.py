"""The views of a picture along a camera's path: forward warping with a z-buffer, black where nothing is known.

The picture's pixels become points in space, by a depth map or on a plane, and each view shows the nearest ones. Their depth is
what is carried into a view; its colours are then looked up in the picture, so that nothing is blurred twice.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ..checks import check_number
from ..errors import InputError

DepthKind = Literal["disparity", "distance"]
DEPTH_KINDS: tuple[str, ...] = get_args(DepthKind)
FINER = 3  # points a pixel along a side, so that a picture seen from nearer has no cracks; odd, so that centres stay centres
SAME_SURFACE = 0.05  # depths within this share of the nearest belong to it
_JUST_ONE = 1e-6


def depth_from_map(map: Tensor, kind: DepthKind = "disparity", depth_range: float = 8.0) -> Tensor:
    """A depth map [H,W] of any scale -> distances, of which the middle one (the median) is 1.

    disparity     white is near, as most depth estimators draw it: proportional to 1 / distance
    distance      white is far: proportional to the distance
    depth_range   how many times farther the farthest point is than the nearest, which a map does not say
    """
    check_depth(kind, depth_range)
    if map.ndim != 2 or not map.isfinite().all():
        raise InputError(f"the depth map has shape {list(map.shape)} or holds NaN; give finite values [H,W].")
    low, high = map.min(), map.max()
    share = (map.float() - low) / (high - low) if high > low else torch.ones_like(map, dtype=torch.float32)
    if kind == "disparity":
        distance = 1 / torch.lerp(torch.tensor(1 / depth_range), torch.tensor(1.0), share)
    else:
        distance = torch.lerp(torch.tensor(1.0), torch.tensor(depth_range), share)
    return distance / distance.median()


def check_depth(kind: str, depth_range: float) -> None:
    if kind not in DEPTH_KINDS:
        raise InputError(f"the kind of depth map is {kind!r}; give {' or '.join(DEPTH_KINDS)}.")
    check_number("depth range", depth_range, 1, 1000)


def check_field_of_view(degrees: float) -> None:
    check_number("field of view", degrees, 1, 170)


def render_views(
    image: Tensor,
    poses: Tensor,
    depth: Tensor | None = None,
    field_of_view: float = 55.0,
    black: float = -1.0,
    on_view: Callable[[], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Image [3,H,W], of which `black` is the darkest value, seen from `poses` [T,6] (camera/path.py) -> views [T,3,H,W], and where each knows [T,H,W].

    depth           [H,W], the middle distance being 1; None: a plane at distance 1
    field_of_view   of the picture's longer side, in degrees
    """
    check_field_of_view(field_of_view)
    height, width = image.shape[1:]
    if depth is not None and depth.shape != (height, width):
        depth = F.interpolate(depth[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
    focal = max(width, height) / 2 / math.tan(math.radians(field_of_view) / 2)
    points = _points(depth, height, width, focal)
    views, known = [], []
    for pose in poses.double():
        view, seen = _view(image, points, pose, focal) if pose.any() else (image, torch.ones(height, width).bool())
        views.append(torch.where(seen, view, black))
        known.append(seen)
        if on_view:
            on_view()
    return torch.stack(views), torch.stack(known)


def _points(depth: Tensor | None, height: int, width: int, focal: float) -> Tensor:
    """FINER x FINER points a pixel, 3 n: x right, y down, z forward."""
    rows, columns = (_fine(length) - (length - 1) / 2 for length in (height, width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    z = torch.ones_like(x) if depth is None else torch.kron(depth.float(), torch.ones(FINER, FINER))
    return torch.stack([x / focal * z, y / focal * z, z]).flatten(1)


def _fine(length: int) -> Tensor:
    steps = torch.arange(length * FINER, dtype=torch.float32)
    return (steps - (FINER - 1) / 2) / FINER


def _view(image: Tensor, points: Tensor, pose: Tensor, focal: float) -> tuple[Tensor, Tensor]:
    height, width = image.shape[1:]
    turn, place = _camera(pose)
    seen = turn.T @ (points - place[:, None])
    depth = _nearest(seen, height, width, focal)
    depth = _close_cracks(depth)
    known = depth.isfinite()
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    z = torch.where(known, depth, 1.0)
    there = turn @ torch.stack([x / focal * z, y / focal * z, z]).flatten(1) + place[:, None]
    at = focal * there[:2] / there[2].clamp(min=_JUST_ONE)  # in the picture, from its centre
    grid = torch.stack([at[0] / (width / 2), at[1] / (height / 2)], dim=-1).view(1, height, width, 2)
    inside = (at[0].abs() <= width / 2).logical_and(at[1].abs() <= height / 2).view(height, width)
    known = known & inside
    view = F.grid_sample(image[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    return view, known


def _camera(pose: Tensor) -> tuple[Tensor, Tensor]:
    """Camera to world, y down: its rotation [3,3] and its place [3]."""
    yaw, pitch, roll = pose[:3].deg2rad().tolist()
    x, y, z = pose[3:].tolist()
    about_y = torch.tensor([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    about_x = torch.tensor([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    about_z = torch.tensor([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    return about_y @ about_x @ about_z, torch.tensor([x, -y, z], dtype=torch.float32)


def _nearest(seen: Tensor, height: int, width: int, focal: float) -> Tensor:
    """The depth of the nearest surface in each pixel, [H,W]; infinity where there is none."""
    x, y, z = seen
    across, down = (
        focal * x / z.clamp(min=_JUST_ONE) + (width - 1) / 2,
        focal * y / z.clamp(min=_JUST_ONE) + (height - 1) / 2,
    )
    column, row = across.round(), down.round()
    visible = (z > _JUST_ONE) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    z, across, down, column, row = (values[visible] for values in (z, across, down, column, row))
    pixel = (row * width + column).long()
    nearest = torch.full((height * width,), torch.inf).scatter_reduce(0, pixel, z, "amin")
    # 1 / z is linear across a surface: its mean, weighted towards the pixel's centre, is its value there.
    weight = (1 - (across - column).abs()) * (1 - (down - row).abs())
    weight = torch.where(z <= nearest[pixel] * (1 + SAME_SURFACE), weight, 0.0)
    total = torch.zeros(height * width).scatter_add(0, pixel, weight)
    inverse = torch.zeros(height * width).scatter_add(0, pixel, weight / z)
    return torch.where(total > 0, total / inverse, torch.inf).view(height, width)


def _close_cracks(depth: Tensor) -> Tensor:
    """A pixel between two known ones, left and right or above and below, is seen too: of the farther of them."""
    wide = F.pad(depth[None], (1, 1, 1, 1), value=torch.inf)[0]
    beside = torch.maximum(wide[1:-1, :-2], wide[1:-1, 2:])
    above = torch.maximum(wide[:-2, 1:-1], wide[2:, 1:-1])
    return torch.where(depth.isfinite(), depth, torch.minimum(beside, above))
