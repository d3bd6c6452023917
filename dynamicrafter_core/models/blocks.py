"""What the UNet's building blocks have in common: the signals they get, and how they are chained."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .hooks import Hooks, Where


class SharedStem:
    """Results that guidance branches run one after another have in common: all before the first of them reads its text."""

    def __init__(self) -> None:
        self.results: dict[Any, Tensor] = {}
        self.closed = False

    def once(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        """The result of `make`, computed by the first branch that gets here."""
        if key in self.results:
            return self.results[key]
        made = make()
        if not self.closed:
            self.results[key] = made
        return made


@dataclass(frozen=True)
class Signals:
    """Every input of a block besides the latent. Rows are (branch, batch): k guidance branches of b clips."""

    frames: int
    embedding: Tensor  # b e: the timestep, with fs where the model knows it
    text: Tensor  # k*b l d
    image: Tensor | None  # k*b t n d, or k*b 1 n d when all frames share the tokens
    image_strength: float | Tensor = 1.0  # a tensor: (k b t) 1 1
    options: Mapping[str, Any] = field(default_factory=dict)
    stem: SharedStem | None = None  # None: the branches run together, in one batch
    hooks: Hooks = field(default_factory=Hooks)
    shape: tuple[int, ...] = ()  # of the activations at this transformer; known where there are hooks to read it
    upsampled: tuple[int, ...] | None = None  # the size to upsample to, where a hook may have changed the sizes

    @property
    def rows(self) -> int:
        return self.text.shape[0]

    def split_branches(self) -> Iterator["Signals"]:
        """The signals of each branch, to be run one after another."""
        stem, clips = SharedStem(), self.embedding.shape[0]
        branches = self.text.shape[0] // clips
        images = branches * [None] if self.image is None else self.image.split(clips)
        strength = self.image_strength
        strengths = strength.split(clips * self.frames) if isinstance(strength, Tensor) else branches * [strength]
        for text, image, weight in zip(self.text.split(clips), images, strengths, strict=True):
            yield replace(self, text=text, image=image, image_strength=weight, stem=stem)

    def once(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        return make() if self.stem is None else self.stem.once(key, make)

    def read_text(self) -> Tensor:
        """The text; from here on the branches differ."""
        if self.stem is not None:
            self.stem.closed = True
        return self.text

    def at(self, h: Tensor) -> "Signals":
        """For hooks inside a transformer: with the shape of the activations that it got."""
        return replace(self, shape=tuple(h.shape)) if self.hooks else self

    def where(self, place: str) -> Where:
        return Where(place, self.frames, self.shape)


class Block(nn.Module):
    """A layer of frames, (b t) c h w, that also gets the signals."""

    def forward(self, h: Tensor, signals: Signals) -> Tensor:
        raise NotImplementedError


class Stage(nn.ModuleList):
    """Layers in a row, numbered as the released state dicts number them."""

    def forward(self, h: Tensor, signals: Signals) -> Tensor:
        for layer in self:
            run = partial(layer, h, signals) if isinstance(layer, Block) else partial(layer, h)
            h = signals.once(layer, run)
        return h


class Downsample(nn.Module):
    def __init__(self, channels: int, *, dtype: Any = None, device: Any = None, operations: Any = nn) -> None:
        super().__init__()
        self.op = operations.Conv2d(channels, channels, 3, stride=2, padding=1, dtype=dtype, device=device)

    def forward(self, h: Tensor) -> Tensor:
        return self.op(h)


class Upsample(Block):
    def __init__(self, channels: int, *, dtype: Any = None, device: Any = None, operations: Any = nn) -> None:
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, padding=1, dtype=dtype, device=device)

    def forward(self, h: Tensor, signals: Signals) -> Tensor:
        size = signals.upsampled or (2 * h.shape[2], 2 * h.shape[3])
        return self.conv(F.interpolate(h, size=size, mode="nearest"))


def sinusoid(values: Tensor, width: int) -> Tensor:
    """b -> b width: cosines, then sines, of geometrically spaced frequencies; always float32."""
    half = width // 2
    frequencies = torch.exp(-torch.arange(half, device=values.device, dtype=torch.float32) / half * 9.210340371976184)
    angles = values.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def scale_sinusoid(values: Tensor, width: int) -> Tensor:
    """b -> b width: a guidance or motion scale (T2V-Turbo): sines first, and the last frequency is 1/10000; always float32.

    Angles reach thousands, where float32 leaves few digits, so their rounding is part of what was trained. The frequencies are
    rounded from float64 here: float32's exp differs in its last bit from one processor to another.
    """
    half = width // 2
    steps = torch.arange(half, dtype=torch.float64)
    frequencies = torch.exp(steps * -(math.log(10000) / (half - 1))).to(values.device, torch.float32)
    angles = (1000 * values.float())[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
