"""ToonCrafter's autoencoder: a decoder that works on all frames of a clip jointly and looks at its two given frames.

What the encoder saw of the first and the last frame, at every resolution, is what a latent has lost: the decoder adds it to the
outermost frames (Combiner) and lets every frame attend to it (ReferenceAttention), and mixes frames along time after every
residual block (ToonCrafter, section 3.3). Everything that treats frames singly still runs in portions of `chunk` frames.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from .attention import attend
from .autoencoder import Autoencoder, AutoencoderConfig, Decoder, ResidualBlock
from .chunks import in_chunks
from .layout import to_frames, to_volume


class TimeStack(nn.Module):
    """Two convolutions along time; gives the change, not the sum."""

    def __init__(self, channels: int, groups: int, make: dict[str, Any], operations: Any) -> None:
        super().__init__()

        def layers(*between: nn.Module) -> nn.Sequential:
            norm = operations.GroupNorm(groups, channels, eps=1e-5, **make)
            conv = operations.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), **make)
            return nn.Sequential(norm, nn.SiLU(inplace=True), *between, conv)

        self.in_layers = layers()
        self.out_layers = layers(nn.Identity())

    def forward(self, volume: Tensor) -> Tensor:
        for layer in (*self.in_layers, *self.out_layers):  # one loop, so that no layer's input outlives it
            volume = layer(volume)
        return volume


class VideoBlock(ResidualBlock):
    """A residual block over space, then one over time, blended by a learned weight.

    `forward` is the first alone: what goes into it is then free before the second, where a clip needs the most memory.
    """

    def __init__(self, channels_in: int, channels_out: int, groups: int, make: dict[str, Any], operations: Any) -> None:
        super().__init__(channels_in, channels_out, groups, make, operations)
        self.mix_factor = nn.Parameter(torch.zeros(1, **make))
        self.time_stack = TimeStack(channels_out, groups, make, operations)

    def mix_frames(self, h: Tensor, frames: int) -> Tensor:
        change = to_frames(self.time_stack(to_volume(h, frames)))
        return torch.addcmul(h, change, self.mix_factor.to(h).sigmoid())  # a (h + change) + (1 - a) h


class Combiner(nn.Module):
    """Add the reference frames to the first and the last frame."""

    def __init__(self, channels: int, make: dict[str, Any], operations: Any) -> None:
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 1, **make)

    def forward(self, h: Tensor, reference: Tensor, frames: int, chunk: int | None = None) -> Tensor:
        change = to_volume(self.conv(to_frames(reference)), 2)  # b c 2 h w
        volume = to_volume(h, frames)
        # In place: a copy of the whole clip for the sake of two frames would be the decoder's largest tensor.
        volume[:, :, 0] += change[:, :, 0]
        volume[:, :, -1] += change[:, :, 1]
        return h


class ReferenceAttention(nn.Module):
    """Every pixel of every frame looks at all pixels of both reference frames."""

    heads, head_channels = 8, 64

    def __init__(self, channels: int, groups: int, make: dict[str, Any], operations: Any) -> None:
        super().__init__()
        inner = self.heads * self.head_channels
        self.to_q = operations.Linear(channels, inner, bias=False, **make)
        self.to_k = operations.Linear(channels, inner, bias=False, **make)
        self.to_v = operations.Linear(channels, inner, bias=False, **make)
        self.to_out = nn.Sequential(operations.Linear(inner, channels, **make), nn.Identity())
        self.norm = operations.GroupNorm(groups, channels, eps=1e-5, **make)

    def forward(self, h: Tensor, reference: Tensor, frames: int, chunk: int | None = None) -> Tensor:
        tokens = reference.flatten(2).transpose(1, 2)  # b (2 h w) c
        clips = zip(h.split(frames), self.to_k(tokens).split(1), self.to_v(tokens).split(1), strict=True)
        return torch.cat([in_chunks(partial(self.look, k=k, v=v), clip, chunk) for clip, k, v in clips])

    def look(self, h: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q = self.to_q(self.norm(h).flatten(2).transpose(1, 2))  # t (h w) d
        seen = attend(q.flatten(0, 1)[None], k, v, self.heads)  # the frames share their keys: one long row of queries
        return h + self.to_out(seen.view_as(q)).transpose(1, 2).unflatten(2, h.shape[2:])


class ReferenceDecoder(Decoder):
    def __init__(self, config: AutoencoderConfig, make: dict[str, Any], operations: Any) -> None:
        super().__init__(config, make, operations, block=VideoBlock)
        out = config.out_channels
        # The convolution over time is a child of the one over space, as in the released files.
        self.conv_out.time_mix_conv = operations.Conv3d(out, out, (3, 1, 1), padding=(1, 0, 0), **make)
        self.attn_refinement = nn.ModuleList()
        for level, mult in enumerate(config.channel_mult):
            channels = config.channels * mult
            if level < 2:  # attention between full pictures would be out of proportion
                self.attn_refinement.append(Combiner(channels, make, operations))
            else:
                self.attn_refinement.append(ReferenceAttention(channels, config.norm_groups, make, operations))
        self.attn_refinement.append(Combiner(config.channels, make, operations))

    def forward(
        self, z: Tensor, references: Sequence[Tensor] | None = None, frames: int = 1, chunk: int | None = None
    ) -> Tensor:
        def refine(index: int, h: Tensor) -> Tensor:
            return h if references is None else self.attn_refinement[index](h, references[index], frames, chunk)

        mid: Any = self.mid
        h = in_chunks(self.conv_in, z, chunk)
        h = in_chunks(mid.block_1, h, chunk)
        h = mid.block_1.mix_frames(h, frames)
        h = in_chunks(mid.attn_1, h, chunk)
        h = in_chunks(mid.block_2, h, chunk)
        h = mid.block_2.mix_frames(h, frames)
        level: Any
        for index, level in reversed(list(enumerate(self.up))):
            for block in level.block:
                h = in_chunks(block, h, chunk)
                h = block.mix_frames(h, frames)
            h = refine(index, h)
            if index:
                h = in_chunks(level.upsample, h, chunk)
        h = in_chunks(lambda part: F.silu(self.norm_out(part), inplace=True), h, chunk)
        h = in_chunks(self.conv_out, refine(-1, h), chunk)
        return to_frames(self.conv_out.time_mix_conv(to_volume(h, frames)))


class DualReferenceAutoencoder(Autoencoder):
    decoder: ReferenceDecoder

    def make_decoder(self, make: dict[str, Any], operations: Any) -> ReferenceDecoder:
        return ReferenceDecoder(self.config, make, operations)

    def encode(self, pixels: Tensor, return_hidden: bool = False, *, chunk: int | None = None) -> Any:
        """Mean and log variance as every autoencoder gives them; with `return_hidden`, also a list of what each level saw.

        Only the first and the last frame's hidden states are of use: encode those two with `return_hidden`, not the clip.
        """
        if not return_hidden:
            return super().encode(pixels, chunk=chunk)

        def run(part: Tensor) -> tuple[Tensor, ...]:
            hidden: list[Tensor] = []
            return self.encoder(part, hidden), *hidden

        h, *hidden = in_chunks(run, self.check_pixels(pixels), chunk)
        return *self.moments(h), hidden

    @staticmethod
    def references(hidden: Sequence[Tensor], frames: int | None = None) -> list[Tensor]:
        """First and last of every clip of `frames` frames (None: one clip): list of [(b t),c,h,w] -> list of [b,c,2,h,w]."""
        volumes = (to_volume(states, frames or states.shape[0]) for states in hidden)
        return [volume[:, :, [0, -1]] for volume in volumes]

    def decode(
        self,
        z: Tensor,
        references: Sequence[Tensor] | None = None,
        frames: int | None = None,
        *,
        chunk: int | None = None,
    ) -> Tensor:
        """Latents [B*T,4,h,w] -> pixels, the T = `frames` frames of a clip jointly (None: all of `z` is one clip).

        `chunk` bounds the memory of the layers that treat frames singly; it changes no number.
        """
        frames = frames or z.shape[0]
        if z.shape[0] % frames:
            raise InputError(f"{z.shape[0]} latents do not divide into clips of {frames} frames.")
        # The released decoder was trained without post_quant_conv, although its files hold one.
        return self.decoder(self.check_latent(z), references, frames, chunk)
