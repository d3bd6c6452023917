"""The autoencoder of Stable Diffusion: frames to latents and back, one frame at a time.

    pixels -> conv -> level 0 .. level n, each halving the picture -> middle (with attention) -> mean, logvar
    latent -> conv -> middle -> level n .. level 0, each doubling the picture -> pixels

Latents are unscaled here; the diffusion models see them times LATENT_SCALE. Module names are the released checkpoints' names,
without `first_stage_model.`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from .attention import attend
from .chunks import in_chunks

LATENT_SCALE = 0.18215


@dataclass(frozen=True)
class AutoencoderConfig:
    in_channels: int = 3
    out_channels: int = 3
    z_channels: int = 4
    embed_dim: int = 4
    channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    res_blocks: int = 2
    norm_groups: int = 32
    dual_reference: bool = False  # ToonCrafter's decoder, see dual_reference.py

    def __post_init__(self) -> None:
        if self.channels % self.norm_groups:
            raise InputError(
                f"An autoencoder of {self.channels} channels does not divide into {self.norm_groups} norm groups: "
                "give `norm_groups` a number that divides its channels."
            )

    @property
    def size_factor(self) -> int:
        """One latent pixel covers a square of this many pixels a side."""
        return 2 ** (len(self.channel_mult) - 1)

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], **known: Any) -> "AutoencoderConfig":
        """From a released YAML's `ddconfig`; `known` gives what does not stand in it (embed_dim, dual_reference, ...)."""
        if config.get("attn_resolutions") or not config.get("double_z", True):
            raise InputError(
                "An autoencoder config with attn_resolutions or without double_z is not of this family, whose only "
                "attention is in the middle and whose encoder gives a mean and a variance."
            )
        figures = {
            "in_channels": config["in_channels"],
            "out_channels": config["out_ch"],
            "z_channels": config["z_channels"],
            "embed_dim": config["z_channels"],
            "channels": config["ch"],
            "channel_mult": tuple(config["ch_mult"]),
            "res_blocks": config["num_res_blocks"],
        }
        return cls(**{**figures, **known})

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]], **known: Any) -> "AutoencoderConfig":
        """From a state dict's keys and shapes; `known` gives what shapes cannot show (norm_groups)."""
        try:
            inferred = _infer(shapes)
        except KeyError as error:
            raise InputError(f"These {len(shapes)} tensors are not an autoencoder: {error} is missing.") from error
        return cls(**{**inferred, **known})


def _infer(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    def count(pattern: str) -> int:
        return next(index for index in range(64) if pattern.format(index) not in shapes)

    channels, in_channels = shapes["encoder.conv_in.weight"][:2]
    levels = count("encoder.down.{}.block.0.norm1.weight")
    widths = [shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels)]
    return {
        "in_channels": in_channels,
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "z_channels": shapes["decoder.conv_in.weight"][1],
        "embed_dim": shapes["post_quant_conv.weight"][1],
        "channels": channels,
        "channel_mult": tuple(width // channels for width in widths),
        "res_blocks": count("encoder.down.0.block.{}.norm1.weight"),
        "dual_reference": any(key.startswith("decoder.attn_refinement.") for key in shapes),
    }


class ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, groups: int, make: dict[str, Any], operations: Any) -> None:
        super().__init__()
        self.norm1 = operations.GroupNorm(groups, channels_in, eps=1e-6, **make)
        self.conv1 = operations.Conv2d(channels_in, channels_out, 3, padding=1, **make)
        self.norm2 = operations.GroupNorm(groups, channels_out, eps=1e-6, **make)
        self.conv2 = operations.Conv2d(channels_out, channels_out, 3, padding=1, **make)
        if channels_in != channels_out:
            self.nin_shortcut = operations.Conv2d(channels_in, channels_out, 1, **make)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x), inplace=True))
        h = self.conv2(F.silu(self.norm2(h), inplace=True))
        return h.add_(self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class MiddleAttention(nn.Module):
    """Every pixel of a frame sees every other, in a single head."""

    def __init__(self, channels: int, groups: int, make: dict[str, Any], operations: Any) -> None:
        super().__init__()
        self.norm = operations.GroupNorm(groups, channels, eps=1e-6, **make)
        self.q = operations.Conv2d(channels, channels, 1, **make)
        self.k = operations.Conv2d(channels, channels, 1, **make)
        self.v = operations.Conv2d(channels, channels, 1, **make)
        self.proj_out = operations.Conv2d(channels, channels, 1, **make)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (project(h).flatten(2).transpose(1, 2) for project in (self.q, self.k, self.v))  # b (h w) c
        h = attend(q, k, v, heads=1).transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.proj_out(h)


class Middle(nn.Module):
    def __init__(
        self, channels: int, groups: int, make: dict[str, Any], operations: Any, block: type[ResidualBlock]
    ) -> None:
        super().__init__()
        self.block_1 = block(channels, channels, groups, make, operations)
        self.attn_1 = MiddleAttention(channels, groups, make, operations)
        self.block_2 = block(channels, channels, groups, make, operations)

    def forward(self, h: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(h)))


class Downsample(nn.Module):
    def __init__(self, channels: int, make: dict[str, Any], operations: Any) -> None:
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, stride=2, **make)

    def forward(self, h: Tensor) -> Tensor:
        return self.conv(F.pad(h, (0, 1, 0, 1)))  # trained with a border on the right and below only


class Upsample(nn.Module):
    def __init__(self, channels: int, make: dict[str, Any], operations: Any) -> None:
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, padding=1, **make)

    def forward(self, h: Tensor) -> Tensor:
        return self.conv(F.interpolate(h, scale_factor=2, mode="nearest"))


class DownLevel(nn.Module):
    def __init__(self, block: nn.Sequential, downsample: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.downsample = downsample

    def forward(self, h: Tensor, hidden: list[Tensor] | None = None) -> Tensor:
        h = self.block(h)
        if hidden is not None:
            hidden.append(h)
        return self.downsample(h)


class UpLevel(nn.Module):
    def __init__(self, block: nn.Sequential, upsample: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.upsample = upsample

    def forward(self, h: Tensor) -> Tensor:
        return self.upsample(self.block(h))


class Encoder(nn.Module):
    def __init__(self, config: AutoencoderConfig, make: dict[str, Any], operations: Any) -> None:
        super().__init__()
        groups = config.norm_groups
        channels = config.channels
        self.conv_in = operations.Conv2d(config.in_channels, channels, 3, padding=1, **make)
        self.down = nn.ModuleList()
        for level, mult in enumerate(config.channel_mult):
            blocks = nn.Sequential()
            for _ in range(config.res_blocks):
                blocks.append(ResidualBlock(channels, config.channels * mult, groups, make, operations))
                channels = config.channels * mult
            last = level + 1 == len(config.channel_mult)
            self.down.append(DownLevel(blocks, nn.Identity() if last else Downsample(channels, make, operations)))
        self.mid = Middle(channels, groups, make, operations, ResidualBlock)
        self.norm_out = operations.GroupNorm(groups, channels, eps=1e-6, **make)
        self.conv_out = operations.Conv2d(channels, 2 * config.z_channels, 3, padding=1, **make)

    def forward(self, pixels: Tensor, hidden: list[Tensor] | None = None) -> Tensor:
        """`hidden`, when given, gathers what each level ends in, and at last what the first convolution gave."""
        h = self.conv_in(pixels)
        first = [] if hidden is None else [h]
        for level in self.down:
            h = level(h, hidden)
        if hidden is not None:
            hidden.extend(first)
        return self.conv_out(F.silu(self.norm_out(self.mid(h)), inplace=True))


class Decoder(nn.Module):
    def __init__(
        self,
        config: AutoencoderConfig,
        make: dict[str, Any],
        operations: Any,
        block: type[ResidualBlock] = ResidualBlock,
    ) -> None:
        super().__init__()
        groups = config.norm_groups
        channels = config.channels * config.channel_mult[-1]
        self.conv_in = operations.Conv2d(config.z_channels, channels, 3, padding=1, **make)
        self.mid = Middle(channels, groups, make, operations, block)
        levels = []
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            blocks = nn.Sequential()
            for _ in range(config.res_blocks + 1):
                blocks.append(block(channels, config.channels * mult, groups, make, operations))
                channels = config.channels * mult
            levels.append(UpLevel(blocks, Upsample(channels, make, operations) if level else nn.Identity()))
        self.up = nn.ModuleList(reversed(levels))  # numbered from the full resolution down, run from the end
        self.norm_out = operations.GroupNorm(groups, channels, eps=1e-6, **make)
        self.conv_out = operations.Conv2d(channels, config.out_channels, 3, padding=1, **make)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h), inplace=True))


class Autoencoder(nn.Module):
    def __init__(
        self,
        config: AutoencoderConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        operations: Any = nn,
    ) -> None:
        super().__init__()
        self.config = config
        make: dict[str, Any] = {"dtype": dtype, "device": device}
        self.encoder = Encoder(config, make, operations)
        self.decoder = self.make_decoder(make, operations)
        self.quant_conv = operations.Conv2d(2 * config.z_channels, 2 * config.embed_dim, 1, **make)
        self.post_quant_conv = operations.Conv2d(config.embed_dim, config.z_channels, 1, **make)

    def make_decoder(self, make: dict[str, Any], operations: Any) -> Decoder:
        return Decoder(self.config, make, operations)

    def encode(self, pixels: Tensor, *, chunk: int | None = None) -> tuple[Tensor, Tensor]:
        """Pixels [N,3,H,W] in [-1,1] -> mean and log variance [N,4,H/8,W/8], `chunk` frames at a time."""
        pixels = self.check_pixels(pixels)
        return self.moments(in_chunks(self.encoder, pixels, chunk))

    def decode(self, z: Tensor, *, chunk: int | None = None) -> Tensor:
        """Latents [N,4,h,w] -> pixels [N,3,8h,8w], about -1..1, `chunk` frames at a time."""
        z = self.check_latent(z)
        return in_chunks(lambda part: self.decoder(self.post_quant_conv(part)), z, chunk)

    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.quant_conv(h).chunk(2, dim=1)
        return mean, logvar.clamp(-30.0, 20.0)

    def check_pixels(self, pixels: Tensor) -> Tensor:
        channels, factor = self.config.in_channels, self.config.size_factor
        if pixels.ndim != 4 or pixels.shape[1] != channels:
            raise InputError(f"The autoencoder encodes [frames, {channels}, height, width], not {list(pixels.shape)}.")
        if pixels.shape[2] % factor or pixels.shape[3] % factor:
            raise InputError(
                f"A picture of {pixels.shape[3]}x{pixels.shape[2]} is not divisible by {factor} in width and height: "
                "crop or pad it first."
            )
        return _in_fast_layout(pixels)

    def check_latent(self, z: Tensor) -> Tensor:
        if z.ndim != 4 or z.shape[1] != self.config.embed_dim:
            raise InputError(
                f"The autoencoder decodes [frames, {self.config.embed_dim}, height, width], not {list(z.shape)}."
            )
        return _in_fast_layout(z)


def _in_fast_layout(x: Tensor) -> Tensor:
    """The CPU's convolutions and norms are fastest on channels-last memory; elsewhere the caller's choice stands."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x
