"""What the UNet's building blocks have in common: the signals they get, and how they are chained."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Beginning:
    """What guidance branches that run one after another have in common: everything before the first of them reads its text."""

    def __init__(self) -> None:
        self.held: dict[Any, Tensor] = {}
        self.over = False

    def once(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        """The result of `make`, from the first branch that came here."""
        if key in self.held:
            return self.held[key]
        made = make()
        if not self.over:
            self.held[key] = made
        return made


@dataclass(frozen=True)
class Signals:
    """Everything a block is told beside the latent. Rows are (branch, batch): k guidance branches of b clips."""

    frames: int
    embedding: Tensor  # b e: the timestep, with fs where the model knows it
    text: Tensor  # k*b l d
    image: Tensor | None  # k*b t n d, or k*b 1 n d when all frames share the tokens
    image_strength: float | Tensor = 1.0  # a tensor: (k b t) 1 1
    options: Mapping[str, Any] = field(default_factory=dict)
    beginning: Beginning | None = None  # None: the branches run together, in one batch

    @property
    def rows(self) -> int:
        return self.text.shape[0]

    def apart(self) -> Iterator["Signals"]:
        """The signals of each branch, to be run one after another."""
        beginning, clips = Beginning(), self.embedding.shape[0]
        branches = self.text.shape[0] // clips
        images = branches * [None] if self.image is None else self.image.split(clips)
        strength = self.image_strength
        strengths = strength.split(clips * self.frames) if isinstance(strength, Tensor) else branches * [strength]
        for text, image, weight in zip(self.text.split(clips), images, strengths, strict=True):
            yield replace(self, text=text, image=image, image_strength=weight, beginning=beginning)

    def once(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        return make() if self.beginning is None else self.beginning.once(key, make)

    def read_text(self) -> Tensor:
        """The text; from here on the branches differ."""
        if self.beginning is not None:
            self.beginning.over = True
        return self.text


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


class Upsample(nn.Module):
    def __init__(self, channels: int, *, dtype: Any = None, device: Any = None, operations: Any = nn) -> None:
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, padding=1, dtype=dtype, device=device)

    def forward(self, h: Tensor) -> Tensor:
        return self.conv(F.interpolate(h, scale_factor=2, mode="nearest"))


def sinusoid(values: Tensor, width: int) -> Tensor:
    """b -> b width: cosines, then sines, of geometrically spaced frequencies; always float32."""
    half = width // 2
    frequencies = torch.exp(-torch.arange(half, device=values.device, dtype=torch.float32) / half * 9.210340371976184)
    angles = values.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
