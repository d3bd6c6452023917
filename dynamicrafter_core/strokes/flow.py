"""How far each pixel comes: a dense flow from a few strokes, from a mask to another, or from an optical flow.

Strokes are few, and a flow has a vector for every pixel: each stroke's counts around its start, by a Gaussian of the distance, as in
DragNUWA (Yin et al. 2023). What does not move is told by the layer, so a thing moves as a whole and its surroundings stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..media.images import Fit, fit_image
from .drawing import Strokes, shift_at

SOFT = 3.0  # pixels over which the edge of a round layer fades
LEAST = 0.5  # pixels by which a flow must move something
RADIUS = 1 / 8  # of the frame's shorter side


@dataclass(frozen=True)
class Moves:
    flow: Tensor  # t 2 h w: how far what is at a pixel of the picture has come in each frame, x and y, in pixels
    layer: Tensor  # h w: how much of each pixel moves along, 0 to 1


@dataclass(frozen=True)
class Frame:
    """How a picture lies in the clip's frame, in pixels of both."""

    picture: tuple[int, int]  # width, height
    width: int
    height: int
    fit: Fit = "crop"

    @property
    def scale(self) -> tuple[float, float]:
        across, down = self.width / self.picture[0], self.height / self.picture[1]
        if self.fit == "stretch":
            return across, down
        both = max(across, down) if self.fit == "crop" else min(across, down)
        return both, both

    def place(self, point: tuple[float, float]) -> tuple[float, float]:
        (sx, sy), (w, h) = self.scale, self.picture
        return (point[0] - w / 2) * sx + self.width / 2, (point[1] - h / 2) * sy + self.height / 2


def moves_of_strokes(strokes: Strokes, frame: Frame, frames: int, brush: Tensor | None = None) -> Moves:
    """`brush` [h,w]: what moves; without one, a disc around the start of each stroke."""
    lines = [tuple(frame.place(point) for point in line) for line in strokes.lines]
    radius = strokes.radius * sum(frame.scale) / 2 or RADIUS * min(frame.width, frame.height)
    y, x = torch.meshgrid(torch.arange(frame.height) + 0.5, torch.arange(frame.width) + 0.5, indexing="ij")
    distances = torch.stack([((x - line[0][0]) ** 2 + (y - line[0][1]) ** 2).sqrt() for line in lines])  # n h w
    weights = (-((distances / radius) ** 2) / 2).softmax(0)
    shifts = torch.tensor([[shift_at(line, share) for line in lines] for share in strokes.progress(frames)])  # t n 2
    flow = torch.einsum("tnc,nhw->tchw", shifts, weights)
    discs = ((radius - distances) / SOFT + 0.5).clamp(0, 1).amax(0)
    return Moves(flow, discs if brush is None else brush)


def moves_between(before: Tensor, after: Tensor, strokes: Strokes, frames: int) -> Moves:
    """From a mask [h,w] to another: moved and scaled as their centres and spreads say."""
    (from_middle, from_spread), (to_middle, to_spread) = _extent("brush", before), _extent("brush-to", after)
    height, width = before.shape
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    place = torch.stack([x, y])
    end = (place - from_middle[:, None, None]) * (to_spread / from_spread)[:, None, None] + to_middle[:, None, None]
    return Moves(torch.stack([share * (end - place) for share in strokes.progress(frames)]), before)


def moves_of_flow(flow: Any, strokes: Strokes, frame: Frame, frames: int, brush: Tensor | None = None) -> Moves:
    """`flow` [T or 1,H,W,2] or [T or 1,2,H,W]: how far each pixel of the first frame has come, in pixels of its own size."""
    given = _as_volume(flow, frames)
    scale = torch.tensor(Frame((given.shape[-1], given.shape[-2]), frame.width, frame.height, frame.fit).scale)
    fitted = torch.stack([fit_image(each, frame.width, frame.height, frame.fit) for each in given])
    fitted = fitted * scale[:, None, None]
    if len(fitted) == 1:
        fitted = torch.cat([share * fitted for share in strokes.progress(frames)])
    moved = (fitted.norm(dim=1).amax(0) > LEAST).float()
    return Moves(fitted, moved if brush is None else brush)


def _as_volume(flow: Any, frames: int) -> Tensor:
    """t 2 h w"""
    try:
        given = torch.as_tensor(flow, dtype=torch.float32, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"flow is a {type(flow).__name__}; give numbers of shape [{frames} or 1,H,W,2].") from None
    if given.ndim == 4 and given.shape[-1] == 2:
        given = given.movedim(-1, 1)
    if given.ndim != 4 or given.shape[1] != 2 or len(given) not in (1, frames) or not given.numel():
        raise InputError(f"flow has shape {list(given.shape)}; give [{frames} or 1,H,W,2]: x and y of every pixel.")
    if not given.isfinite().all():
        raise InputError("flow holds NaN or infinity; give finite numbers.")
    return given


def _extent(name: str, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Middle and standard deviation of a mask along x and y."""
    total = mask.sum()
    if total < 1:
        raise InputError(f"{name} is empty where the frame shows it; give a mask that is white where something moves.")
    sides: Sequence[Tensor] = (mask.sum(0) / total, mask.sum(1) / total)
    places = [torch.arange(len(side)) + 0.5 for side in sides]
    middle = torch.stack([(side * place).sum() for side, place in zip(sides, places, strict=True)])
    squares = [(side * (place - m) ** 2).sum() for side, place, m in zip(sides, places, middle, strict=True)]
    return middle, torch.stack(squares).sqrt().clamp(min=0.5)
