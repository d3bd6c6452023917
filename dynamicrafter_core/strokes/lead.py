"""What a sampling run is told by strokes and a brush: frames to follow, where and how long, and what stands still."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..diffusion.noise import NoisePrior
from ..diffusion.noise_path import FINER, Canvas
from .animation import Animation, animate_layer, animate_view
from .drawing import Strokes
from .flow import Frame, Moves, moves_between, moves_of_flow, moves_of_strokes


@dataclass(frozen=True)
class Lead:
    frames: Tensor  # t 3 H W: the crude animation; without strokes the picture
    weight: Tensor | None  # t h w of latents: where the run is led, up to the share `until`
    keep: Tensor | None  # h w of latents: 1 where the picture stands still throughout
    until: float
    noise: "CarriedNoise | None"

    def settle(self, latents: Tensor) -> Tensor:
        """Of the frames [...,t,h,w]: where nothing may move all have those of the first, which an encoder that sees the whole
        picture would not give."""
        if self.keep is None:
            return latents
        keep = self.keep.to(latents)
        return keep * latents[..., :1, :, :] + (1 - keep) * latents


@dataclass(frozen=True)
class CarriedNoise:
    """Noise that moves along with what moves, mixed with noise of each frame's own: variance 1 everywhere."""

    places: tuple[Tensor, ...]  # for each frame [2, 4h, 4w]: where each finer value comes from (noise_path.py)
    moved: Tensor  # t h w
    share: float

    def apply(self, noise: Tensor, generator: torch.Generator, shared: bool = False) -> Tensor:
        """[B,C,T,h,w]; `shared`: its frames have something in common, so that what moves is mixed with fresh noise instead."""
        canvas = Canvas(self.places, *noise.shape[3:])
        field, frames = canvas.draw(noise[:, :, 0], generator), [noise[:, :, 0]]
        for own, place, moved in list(zip(noise.unbind(2), self.places, self.moved.to(noise.device), strict=True))[1:]:
            beside = torch.randn(own.shape, generator=generator).to(own) if shared else own
            mixed = self.share**0.5 * canvas.look(field, place) + (1 - self.share) ** 0.5 * beside
            frames.append(torch.where(moved, mixed, own))
        return torch.stack(frames, 2)


@dataclass(frozen=True)
class LedNoise:
    """Noise of a kind (diffusion/noise.py), carried along."""

    prior: NoisePrior
    carried: CarriedNoise

    def apply(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        return self.carried.apply(self.prior.apply(noise, generator), generator, shared=self.prior.kind != "plain")

    def of_steps(self, generator: torch.Generator) -> Callable[[int, torch.Size], Tensor]:
        return lambda step, shape: self.apply(torch.randn(shape, generator=generator), generator)


def make_lead(
    picture: Tensor,
    frame: Frame,
    frames: int,
    factor: int,
    strokes: Strokes,
    brush: Tensor | None = None,
    brush_to: Tensor | None = None,
    flow: Any = None,
) -> Lead:
    """`picture` [3,H,W] and the masks [H,W] fill the frame; `factor`: pixels along a side that one latent covers."""
    if strokes.camera.moves and brush is None:
        return _lead_of_camera(picture, frames, factor, strokes)
    moves = _moves(frame, frames, strokes, brush, brush_to, flow)
    if moves is None:
        return Lead(picture.expand(frames, -1, -1, -1), None, _kept(brush, factor), 0.0, None)
    made = animate_layer(picture, moves)
    led = torch.maximum(made.cover, made.left)
    keep = None if brush is None else _kept(torch.maximum(brush, led.amax(0)), factor)
    weight = F.avg_pool2d(led[:, None], factor)[:, 0]
    return Lead(made.frames, weight, keep, strokes.until, _carried(made, factor, strokes.noise))


def _lead_of_camera(picture: Tensor, frames: int, factor: int, strokes: Strokes) -> Lead:
    """All of the picture moves, and what comes into view is the model's to make."""
    views, known = animate_view(picture, strokes.view, frames)
    weight = F.avg_pool2d(known[:, None], factor)[:, 0]
    carried = None
    if strokes.noise:
        places = strokes.view.places(frames, *weight.shape[1:])
        carried = CarriedNoise(tuple(places), torch.ones_like(weight, dtype=torch.bool), strokes.noise)
    return Lead(views, weight, None, strokes.until, carried)


def _moves(
    frame: Frame, frames: int, strokes: Strokes, brush: Tensor | None, brush_to: Tensor | None, flow: Any
) -> Moves | None:
    if strokes.lines:
        strokes.check(*frame.picture)
        return moves_of_strokes(strokes, frame, frames, brush)
    if strokes.camera.moves and brush is not None:
        return Moves(strokes.view.flow(frames, frame.height, frame.width), brush)
    if flow is not None:
        return moves_of_flow(flow, strokes, frame, frames, brush)
    return None if brush is None or brush_to is None else moves_between(brush, brush_to, strokes, frames)


def _kept(may_move: Tensor | None, factor: int) -> Tensor | None:
    return None if may_move is None else 1 - F.avg_pool2d(may_move[None], factor)[0]


def _carried(made: Animation, factor: int, share: float) -> CarriedNoise | None:
    if share == 0:
        return None
    height, width = (side // factor for side in made.left.shape)
    size = FINER * height, FINER * width
    came = F.interpolate(made.came, size=size, mode="area") * (FINER / factor)
    covered = F.interpolate(made.cover[:, None], size=size, mode="area")
    home = torch.stack(torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij"))
    places = home - torch.where(covered > 0.5, came.flip(1), 0.0).round().long()
    return CarriedNoise(tuple(places), F.avg_pool2d(covered, FINER)[:, 0] > 0.5, share)
