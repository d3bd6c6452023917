"""Single layers at the UNet's widest level, where most of the time goes."""

from types import SimpleNamespace

import torch
from torch import nn

from dynamicrafter_core.models.attention import attend
from dynamicrafter_core.models.resblock import TemporalConv

from .measure import Row, beside, count_flops, medians
from .models import SIZES, config
from .plain import einsum_attention, einsum_fits


def rows(size: str, dtype: torch.dtype, device: torch.device, ceiling: float, repeat: int) -> list[Row]:
    frames, height, width = SIZES[size]
    channels = config(size).model_channels
    heads, pixels = channels // config(size).head_channels, height * width

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=dtype, device=device)

    def attention(what: str, q: torch.Tensor, k: torch.Tensor) -> Row:
        q_meta, k_meta = q.to("meta"), k.to("meta")
        flops = count_flops(lambda: einsum_attention(q_meta, k_meta, k_meta, heads))
        fits = einsum_fits(*q.shape[:2], heads, dtype, device)
        ways = lambda: attend(q, k, k, heads), "einsum", lambda: einsum_attention(q, k, k, heads)
        return Row(what, size, *beside(*ways, fits, repeat), flops, ceiling)

    pixel_tokens, frame_tokens = draw(frames, pixels, channels), draw(pixels, frames, channels)
    clip_tokens, text = pixel_tokens.reshape(1, -1, channels), draw(1, 77, channels)
    text_meta, clip_meta = text.to("meta"), clip_tokens.to("meta")
    per_frame = text.repeat(frames, 1, 1)
    flops = count_flops(lambda: einsum_attention(clip_meta, text_meta, text_meta, heads))
    whole, repeated = medians(
        [
            lambda: attend(clip_tokens, text, text, heads),
            lambda: einsum_attention(pixel_tokens, per_frame, per_frame, heads),
        ],
        repeat,
    )
    return [
        attention("attention over pixels", pixel_tokens, pixel_tokens),
        attention("attention over frames", frame_tokens, frame_tokens),
        Row("attention to text", size, whole, "einsum, text repeated per frame", repeated, flops, ceiling),
        temporal_conv(size, dtype, device, ceiling, repeat),
    ]


def temporal_conv(size: str, dtype: torch.dtype, device: torch.device, ceiling: float, repeat: int) -> Row:
    frames, height, width = SIZES[size]
    channels, groups = config(size).model_channels, config(size).norm_groups
    make = {"dtype": dtype, "device": device}
    layer = TemporalConv(channels, groups, 0.0, make, nn).eval()
    h = torch.randn(frames, channels, height, width, **make)
    lying = h.contiguous(memory_format=torch.channels_last) if device.type == "cpu" else h
    meta = TemporalConv(channels, groups, 0.0, {"dtype": dtype, "device": "meta"}, nn)
    flops = count_flops(lambda: meta(h.to("meta"), frames))

    in_three = TemporalConv(
        channels, groups, 0.0, make, SimpleNamespace(GroupNorm=nn.GroupNorm, Conv3d=nn.Conv3d)
    ).eval()

    def straightforward() -> torch.Tensor:
        volume = h[None].transpose(1, 2).contiguous()  # b c t h w
        out = volume + in_three.conv4(in_three.conv3(in_three.conv2(in_three.conv1(volume))))
        return out.transpose(1, 2).reshape(h.shape)

    ours, theirs = medians([lambda: layer(lying, frames), straightforward], repeat)
    return Row("temporal convolutions", size, ours, "3D convolution, b c t h w", theirs, flops, ceiling)
