"""ToonCrafter's sketch encoder: line drawings of some frames steer the UNet.

A ControlNet (Zhang et al. 2023) of Stable Diffusion 2: a copy of the UNet's way down without its layers over time, which sees
the drawing added to the first features, and gives one residual for every skip and one for the middle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .attention import Attend, attend
from .blocks import Downsample, Signals, Stage, sinusoid
from .layout import to_frames
from .resblock import ResBlock
from .transformers import SpatialTransformer
from .unet import Control
from .unet_config import UNetConfig

STRENGTH = 0.6  # the default of the wrapper it was published for


def _image_unet(**figures: Any) -> UNetConfig:
    """A UNet of single pictures: Stable Diffusion 2's, without figures."""
    without = {"temporal_conv": False, "init_attention": False, "image_attention": False, "fs_condition": False}
    return UNetConfig(**{"in_channels": 4, **without, **figures})


@dataclass(frozen=True)
class SketchEncoderConfig:
    unet: UNetConfig = field(default_factory=_image_unet)  # of which this has the way down and the middle
    hint_channels: int = 1
    hint_widths: tuple[int, ...] = (16, 32, 96, 256)  # each but the first halves the drawing

    @property
    def hint_factor(self) -> int:
        """How many pixels of the drawing, a side, fall on one pixel of the latent."""
        return 2 ** (len(self.hint_widths) - 1)

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]], **known: Any) -> "SketchEncoderConfig":
        """From a state dict's keys and shapes; `known` gives what shapes cannot show of the UNet (head_channels, ...)."""
        hints = [shapes[key] for index in range(0, 64, 4) if (key := f"input_hint_block.{index}.weight") in shapes]
        if not hints:
            raise InputError(f"These {len(shapes)} tensors are not a sketch encoder: input_hint_block is missing.")
        # It has no output blocks: the one figure that only they show is not used.
        unet = UNetConfig.from_shapes({**shapes, "out.2.weight": (UNetConfig.out_channels,)}, **known)
        return cls(unet, hints[0][1], tuple(shape[0] for shape in hints))


class SketchEncoder(nn.Module):
    def __init__(
        self,
        config: SketchEncoderConfig | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        operations: Any = nn,
        attention: Attend = attend,
    ) -> None:
        super().__init__()
        self.config = config = config or SketchEncoderConfig()
        unet = config.unet
        width, embedding = unet.model_channels, 4 * unet.model_channels
        make: dict[str, Any] = {"dtype": dtype, "device": device}
        parts: dict[str, Any] = {**make, "operations": operations}

        def res(channels_in: int, channels_out: int) -> ResBlock:
            return ResBlock(channels_in, channels_out, embedding, temporal_conv=False, groups=unet.norm_groups, **parts)

        def transformer(channels: int) -> SpatialTransformer:
            figures: dict[str, Any] = {"head_channels": unet.head_channels, "depth": unet.depth}
            return SpatialTransformer(
                channels,
                unet.context_dim,
                image=False,
                groups=unet.norm_groups,
                attention=attention,
                **figures,
                **parts,
            )

        def zero(channels: int) -> nn.Sequential:
            return nn.Sequential(_zeroed(operations.Conv2d(channels, channels, 1, **make)))

        self.time_embed = nn.Sequential(
            operations.Linear(width, embedding, **make), nn.SiLU(), operations.Linear(embedding, embedding, **make)
        )
        self.input_blocks = nn.ModuleList([Stage([operations.Conv2d(unet.in_channels, width, 3, padding=1, **make)])])
        self.zero_convs = nn.ModuleList([zero(width)])
        self.input_hint_block = _hint_block(config, make, operations)
        channels = width
        for level, mult in enumerate(unet.channel_mult):
            stages = []
            for _ in range(unet.res_blocks):
                attended = [transformer(width * mult)] if level in unet.attention_levels else []
                stages.append(Stage([res(channels, width * mult), *attended]))
                channels = width * mult
            if level + 1 < len(unet.channel_mult):
                stages.append(Stage([Downsample(channels, **parts)]))
            self.input_blocks.extend(stages)
            self.zero_convs.extend(zero(channels) for _ in stages)
        self.middle_block = Stage([res(channels, channels), transformer(channels), res(channels, channels)])
        self.middle_block_out = zero(channels)

    def forward(
        self,
        x: Tensor,
        hint: Tensor,
        timesteps: Tensor,
        text: Tensor,
        *,
        strength: float = STRENGTH,
        options: Mapping[str, Any] | None = None,
    ) -> Control:
        """Noisy latent [B,4,T,h,w], drawings [B,1,T,8h,8w] in [0,1], timesteps [B], text [K*B,L,D] -> `control`.

        With K > 1, text holds K guidance branches of the same clips, as in the UNet. Every residual is multiplied by `strength`.
        """
        self._check(x, hint)
        frames = x.shape[2]
        embedding = self.time_embed(sinusoid(timesteps, self.config.unet.model_channels).to(x.dtype))
        signals = Signals(frames, embedding, text.to(x.dtype), image=None, options={} if options is None else options)

        h, drawing = to_frames(x), to_frames(hint.to(x.dtype))
        if h.device.type == "cpu":  # as in the UNet
            h, drawing = (part.contiguous(memory_format=torch.channels_last) for part in (h, drawing))
        residuals = []
        for index, (stage, zero) in enumerate(zip(self.input_blocks, self.zero_convs, strict=True)):
            h = stage(h, signals)
            if index == 0:
                h = h + self.input_hint_block(drawing)
            residuals.append(zero(h) * strength)
        return residuals, self.middle_block_out(self.middle_block(h, signals)) * strength

    def _check(self, x: Tensor, hint: Tensor) -> None:
        config, factor = self.config, self.config.hint_factor
        if x.ndim != 5 or x.shape[1] != config.unet.in_channels:
            raise InputError(
                f"The sketch encoder takes the noisy latent alone, [batch, {config.unet.in_channels}, frames, height, "
                f"width], not {list(x.shape)}."
            )
        batch, _, frames, height, width = x.shape
        if hint.shape != (batch, config.hint_channels, frames, factor * height, factor * width):
            raise InputError(
                f"Drawings of shape {list(hint.shape)} do not fit the latent: "
                f"{[batch, config.hint_channels, frames, factor * height, factor * width]} is needed."
            )


def _hint_block(config: SketchEncoderConfig, make: dict[str, Any], operations: Any) -> nn.Sequential:
    """The drawing, pixel by pixel as the latent is: hint channels -> model channels, at the latent's size."""
    first, *others = config.hint_widths
    layers = [operations.Conv2d(config.hint_channels, first, 3, padding=1, **make)]
    channels = first
    for wider in others:
        layers.append(operations.Conv2d(channels, channels, 3, padding=1, **make))
        layers.append(operations.Conv2d(channels, wider, 3, stride=2, padding=1, **make))
        channels = wider
    last = _zeroed(operations.Conv2d(channels, config.unet.model_channels, 3, padding=1, **make))
    return nn.Sequential(*(module for layer in layers for module in (layer, nn.SiLU())), last)


def _zeroed(layer: nn.Module) -> nn.Module:
    """At the start of training a ControlNet changes nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
