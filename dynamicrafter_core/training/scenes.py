"""Scenes drawn at random, and pictures of them under any motion.

A scene is a background canvas and, in front of it, nothing, an object, or the lower half (ground or water). All clips of a batch
are drawn by one formula, whatever moves in them, so that a GPU draws thousands a second.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .camera import light, look
from .motions import RATES
from .seeds import Word
from .textures import Dice, canvases

PLAIN, OBJECT, GROUND, WATER = range(4)  # what stands in front
COLOURS = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.75, 0.2),
    "blue": (0.15, 0.25, 0.95),
    "yellow": (0.95, 0.9, 0.1),
    "purple": (0.6, 0.1, 0.8),
    "orange": (1.0, 0.55, 0.05),
    "white": (0.97, 0.97, 0.97),
    "black": (0.04, 0.04, 0.04),
}
SHAPES = {"ball": 64, "triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6}  # and how many corners


@dataclass(frozen=True)
class Scenes:
    front: Tensor  # n: PLAIN, OBJECT, GROUND or WATER
    back_canvas: Tensor  # n 3 y x
    front_canvas: Tensor  # n 3 y x
    place: Tensor  # n 2: the object's middle
    size: Tensor  # n: its radius
    turn: Tensor  # n
    corners: Tensor  # n
    horizon: Tensor  # n: its height
    bumps: Tensor  # n 3: the horizon's height, frequency and place of its waves
    things: list[str]  # the object's name

    def __len__(self) -> int:
        return len(self.things)

    def select(self, index: list[int]) -> "Scenes":
        rows = torch.tensor(index, device=self.front.device)
        tensors = {name: value[rows] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors, things=[self.things[i] for i in index])


def draw_scenes(
    rows: list[tuple[Word, ...]], fronts: list[int], picture_size: int, device: torch.device | str = "cpu"
) -> Scenes:
    """A scene for each seed; `picture_size` is the longer side of the pictures to come."""
    dice = Dice([(*row, "scene") for row in rows], 16)
    shape, colour = (dice(1)[:, 0] * len(SHAPES)).long(), (dice(1)[:, 0] * len(COLOURS)).long()
    names, corners = list(SHAPES), torch.tensor(list(SHAPES.values()), dtype=torch.float32)
    hues = torch.tensor(list(COLOURS.values()))[colour].to(device)
    front = torch.tensor(fronts, device=device)
    back = canvases([(*row, "back") for row in rows], 3 * picture_size, device)
    over = canvases([(*row, "front") for row in rows], 2 * picture_size, device, leaves=False)
    grey = over.mean(1, keepdim=True)
    painted = hues[:, :, None, None] * (0.55 + 0.45 * grey) + 0.1 * (grey - 0.5)
    over = torch.where((front == OBJECT)[:, None, None, None], painted.clamp(0, 1), over)
    figures = {
        "place": dice(2, low=-0.24, high=0.24),
        "size": dice(1, low=0.11, high=0.19)[:, 0],
        "turn": dice(1, high=6.3)[:, 0],
        "corners": corners[shape],
        "horizon": dice(1, low=-0.08, high=0.14)[:, 0],
        "bumps": torch.stack([dice(1, low=0.01, high=0.035), dice(1, low=10, high=24), dice(1, high=6.3)], 1)[..., 0],
    }
    on_device = {name: value.to(device) for name, value in figures.items()}
    things = [f"{list(COLOURS)[c]} {names[s]}" for c, s in zip(colour.tolist(), shape.tolist(), strict=True)]
    return Scenes(front=front, back_canvas=back, front_canvas=over, things=things, **on_device)


def render(scenes: Scenes, rates: Tensor, extents: Tensor, height: int, width: int, unit: int) -> tuple[Tensor, Tensor]:
    """rates [N,RATES], extents [N,T] (how far each frame has come) -> pixels [N,3,T,H,W] in -1..1, front [N,1,T,H,W] in 0..1.

    `unit`: pixels to a width of the scene; more than the picture has, and it shows the scene's middle.
    """
    device = scenes.front.device
    change = dict(
        zip(RATES, (rates.to(device)[:, :, None] * extents.to(device)[:, None]).unbind(1), strict=True)
    )  # n t

    def wide(value: Tensor) -> Tensor:
        return value[..., None, None] if value.ndim == 2 else value[:, None, None, None]  # n t 1 1

    x, y = look({name: wide(value) for name, value in change.items()}, height, width, unit, device)  # n t h w
    zoom = wide(change["view_zoom"].exp())

    growth = wide(change["object_size"].exp())
    u = (x - wide(scenes.place[:, 0]) - wide(change["object_x"])) / growth
    v = (y - wide(scenes.place[:, 1]) - wide(change["object_y"])) / growth
    wave_x = x - wide(change["water"])
    amplitude, frequency, phase = (wide(figure) for figure in scenes.bumps.unbind(1))
    below = wide(scenes.horizon) + amplitude * (frequency * wave_x + phase).sin() - y
    front = wide(scenes.front)
    outside = torch.where(front == OBJECT, _outside(scenes, u, v) * growth, below)
    cover = (-outside * zoom * 2 * unit).sigmoid() * (front != PLAIN)

    back = _sample(scenes.back_canvas, x - wide(change["sky"]), y)
    is_object = front == OBJECT
    over = _sample(scenes.front_canvas, torch.where(is_object, u, wave_x), torch.where(is_object, v, y))
    picture = torch.lerp(back, over, cover[:, None])
    shine = {name: change[name][:, None, :, None, None] for name in ("light", "dark")}
    picture = light(picture, shine)
    return picture * 2 - 1, cover[:, None]


def _outside(scenes: Scenes, u: Tensor, v: Tensor) -> Tensor:
    """How far outside the object, a regular polygon, a place is: negative within."""
    sector = (2 * torch.pi / scenes.corners)[:, None, None, None]
    angle = torch.atan2(v, u) + scenes.turn[:, None, None, None]
    within = torch.remainder(angle, sector) - sector / 2
    return (u * u + v * v).sqrt() * within.cos() - scenes.size[:, None, None, None] * (sector / 2).cos().sqrt()


def _sample(canvas: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """n 3 y x at places n t h w -> n 3 t h w"""
    frames, height = x.shape[1:3]
    grid = torch.stack([x, y.expand_as(x)], -1).flatten(1, 2)
    sampled = F.grid_sample(canvas, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return sampled.unflatten(2, (frames, height))
