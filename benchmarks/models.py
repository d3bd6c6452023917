"""The UNet as a whole: one forward, and guided steps of two and three branches beside as many forwards."""

import torch
from torch import Tensor

from dynamicrafter_core.models.unet import VideoUNet
from dynamicrafter_core.models.unet_config import UNetConfig

from .measure import Row, beside, count_flops, medians
from .plain import einsum_attention, einsum_fits

SIZES = {"tiny": (8, 16, 16), "256": (16, 32, 32), "512": (16, 40, 64), "1024": (16, 72, 128)}  # frames, h, w


def config(size: str) -> UNetConfig:
    """The released network, but for `tiny`: its weights alone would take longer than the rest of a short run."""
    return UNetConfig(model_channels=128) if size == "tiny" else UNetConfig()


def random_weights(unet: VideoUNet) -> VideoUNet:
    """Weights of any size do; they must only keep the numbers finite, and zeros would let a CPU skip work."""
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return unet.eval()


def inputs(size: str, branches: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    frames, height, width = SIZES[size]
    figures, make = config(size), {"dtype": dtype, "device": device}
    return (
        torch.randn(1, figures.in_channels, frames, height, width, **make),
        torch.full((1,), 500, device=device),
        torch.randn(branches, 77, figures.context_dim, **make),
        torch.randn(branches, frames, 16, figures.context_dim, **make),
        torch.full((1,), 10, device=device),
    )


def passes(unet: VideoUNet, given: tuple[Tensor, ...]) -> list[Tensor]:
    """The branches one after another, as the original code runs them."""
    x, t, text, image, fs = given
    return [unet(x, t, text[row : row + 1], image[row : row + 1], fs) for row in range(text.shape[0])]


def forward(size: str, dtype: torch.dtype, device: torch.device, ceiling: float, repeat: int) -> list[Row]:
    unet = random_weights(VideoUNet(config(size), dtype=dtype, device=device))
    plain = VideoUNet(config(size), device="meta", attention=einsum_attention).eval()
    plain.load_state_dict(unet.state_dict(), assign=True)
    given = inputs(size, 1, dtype, device)
    frames, height, width = SIZES[size]
    fits = einsum_fits(frames, height * width, config(size).model_channels // config(size).head_channels, dtype, device)
    ways = lambda: unet(*given), "plain attention (einsum)", lambda: plain(*given)
    return [Row("UNet forward", size, *beside(*ways, fits, repeat), flops(size, 1, dtype), ceiling)]


def guided(size: str, dtype: torch.dtype, device: torch.device, ceiling: float, repeat: int) -> list[Row]:
    unet = random_weights(VideoUNet(config(size), dtype=dtype, device=device))
    found = []
    for branches in (2, 3):
        given = inputs(size, branches, dtype, device)
        together, apart = medians([lambda g=given: unet(*g), lambda g=given: passes(unet, g)], repeat)
        what = f"guided step, {branches} branches ({branches * together / apart:.2f} x one forward)"
        found.append(Row(what, size, together, f"{branches} passes", apart, flops(size, branches, dtype), ceiling))
    return found


def flops(size: str, branches: int, dtype: torch.dtype) -> float:
    unet = VideoUNet(config(size), dtype=dtype, device="meta")
    return count_flops(lambda: unet(*inputs(size, branches, dtype, torch.device("meta"))))
