"""What scenes are painted with: soft noise, stripes and checks, and overlapping leaves whose edges are those of natural pictures.

A canvas is a square that shows -1..1 in both directions; the picture is its middle, -0.5..0.5 along the longer side, so that the
camera can move. Nothing on it is finer than a pixel of the picture, or it would flicker when it moves.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .seeds import Word, uniform

OCTAVES = (3, 6, 12, 24, 48)  # points of noise along a canvas
LEAVES = 16
_FIELDS = 2 * sum(size * size for size in OCTAVES)
_NUMBERS = _FIELDS + 9 + 12 + LEAVES * 9 + 8


class Dice:
    """Uniform numbers drawn in advance, given out one after another: [clips, ...]."""

    def __init__(self, rows: list[tuple[Word, ...]], count: int, device: torch.device | str = "cpu") -> None:
        self.values = uniform(rows, count).to(device)
        self.used = 0

    def __call__(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        count = 1
        for side in shape:
            count *= side
        values = self.values[:, self.used : self.used + count]
        self.used += count
        return low + (high - low) * values.reshape(-1, *shape)


def canvases(
    rows: list[tuple[Word, ...]], size: int, device: torch.device | str = "cpu", leaves: bool = True
) -> Tensor:
    """One canvas for each row's seed: [N,3,size,size] in 0..1."""
    dice = Dice(rows, _NUMBERS, device)
    mix, shade = (_noise(dice, size) for _ in range(2))
    first, steps = (
        dice(1, 3),
        dice(2, 3, low=0.25, high=0.75),
    )  # colours that differ in every channel: motion must be seen
    palette = torch.cat([first, torch.remainder(first + steps, 1)], 1)[..., None, None]  # n colour rgb 1 1
    soft = torch.lerp(palette[:, 0], palette[:, 1], mix[:, None])
    canvas = torch.lerp(soft, palette[:, 2], _pattern(dice, size)[:, None])
    if leaves:
        canvas = _leaves(dice, canvas)
    strength = dice(1, 1, 1, low=0.1, high=0.9)
    return (canvas * (1 + strength * (shade[:, None] - 0.5))).clamp(0, 1)


def _noise(dice: Dice, size: int) -> Tensor:
    """A field with detail at every scale, each octave weaker than the coarser one before it: n y x, 0..1."""
    field = dice(1, OCTAVES[0], OCTAVES[0]) - 0.5
    for points in OCTAVES[1:]:
        finer = F.interpolate(field, (points, points), mode="bicubic", align_corners=False)
        field = finer + (dice(1, points, points) - 0.5) * (OCTAVES[0] / points) ** 0.7
    field = F.interpolate(field, (size, size), mode="bilinear", align_corners=False)
    low, high = field.amin((2, 3), keepdim=True), field.amax((2, 3), keepdim=True)
    return ((field - low) / (high - low))[:, 0]


def _axis(size: int, device: torch.device) -> Tensor:
    return (torch.arange(size, device=device) + 0.5) / size * 2 - 1


def _pattern(dice: Dice, size: int) -> Tensor:
    """Stripes, checks or dots on two pictures in three, nothing on the others: n y x, 0..1."""
    place, angle, kind = dice(2, 1, 1, high=6.3), dice(1, 1, high=3.1416), dice(1, 1)
    frequency, sharpness = dice(1, 1, low=6, high=24), dice(1, 1, low=1, high=4)
    axis = _axis(size, place.device)
    along = axis * angle.cos() + axis[:, None] * angle.sin()
    across = axis[:, None] * angle.cos() - axis * angle.sin()
    first, second = (frequency * along + place[:, 0]).sin(), (frequency * across + place[:, 1]).sin()
    wave = torch.where(kind < 1 / 3, first, torch.where(kind < 1 / 2, first * second, first + second - 1))
    return (sharpness * wave).sigmoid() * (kind < 2 / 3) * dice(1, 1, low=0.4)


def _leaves(dice: Dice, canvas: Tensor) -> Tensor:
    """Dead leaves (Lee, Mumford & Huang 2001) over every second canvas, the largest at the bottom."""
    present = dice(1)[:, 0] < 0.5
    figures = [dice(LEAVES, count) for count in (2, 1, 1, 1, 3, 1)]
    if not bool(present.any()):
        return canvas
    places, sizes, aspects, angles, colours, corners = (figure[present] for figure in figures)
    order = torch.linspace(0, 1, LEAVES, device=canvas.device)[None, :, None]
    radii = 0.5 * (0.12**order) * (0.7 + 0.6 * sizes)
    coarse = 2 * canvas.shape[2] // 3  # two thirds of the canvas's detail will do: it is the picture's own
    axis, softness = _axis(coarse, canvas.device), coarse / 3
    layer = canvas.new_zeros(int(present.sum()), 4, coarse, coarse)  # rgb, and whether a leaf is there
    colours = torch.cat([colours, torch.ones_like(colours[..., :1])], -1)
    for index in range(LEAVES):
        place, angle = places[:, index] * 2.2 - 1.1, angles[:, index, :, None] * 3.1416
        x, y = axis - place[:, :1, None], axis[:, None] - place[:, 1:, None]
        u, v = (x * angle.cos() + y * angle.sin()).abs(), (y * angle.cos() - x * angle.sin()).abs()
        v = v * (0.6 + 1.4 * aspects[:, index, :, None])
        round_ = (u * u + v * v).sqrt()
        distance = torch.where(corners[:, index, :, None] < 0.5, round_, torch.maximum(u, v)) - radii[:, index, :, None]
        layer = torch.lerp(layer, colours[:, index, :, None, None], (-distance * softness).sigmoid()[:, None])
    layer = F.interpolate(layer, canvas.shape[2:], mode="bilinear", align_corners=False)
    painted = canvas[present] * (1 - layer[:, 3:]) + layer[:, :3]
    return canvas.index_put((present.nonzero()[:, 0],), painted)
