"""The autoencoder: a clip of frames in and out."""

import torch

from dynamicrafter_core.models.autoencoder import Autoencoder, AutoencoderConfig
from dynamicrafter_core.models.preprocess import preprocess_for_clip

from .measure import Row, count_flops, medians
from .models import SIZES


def rows(size: str, dtype: torch.dtype, device: torch.device, ceiling: float, repeat: int) -> list[Row]:
    """Two frames, so that a CPU ends; channels-last as the pipeline runs it, against channels-first."""
    frames, (_, height, width) = 2, SIZES[size]
    vae = Autoencoder(AutoencoderConfig(), dtype=dtype, device=device).eval()
    counting = Autoencoder(AutoencoderConfig(), dtype=dtype, device="meta")
    pixels = torch.randn(frames, 3, 8 * height, 8 * width, dtype=dtype, device=device)
    latents = torch.randn(frames, 4, height, width, dtype=dtype, device=device)
    found = []
    for what, run, count, given in (
        ("VAE encode", vae.encode, counting.encode, pixels),
        ("VAE decode", vae.decode, counting.decode, latents),
    ):
        meta = given.to("meta")
        flops = count_flops(lambda count=count, meta=meta: count(meta))
        lying = given.contiguous(memory_format=torch.channels_last)
        ours, theirs = medians([lambda r=run, x=lying: r(x), lambda r=run, x=given: r(x)], repeat)
        found.append(Row(f"{what}, {frames} frames", size, ours, "channels first", theirs, flops, ceiling))
    image = torch.rand(1, 3, 8 * height, 8 * width, device=device) * 2 - 1
    [seconds] = medians([lambda: preprocess_for_clip(image)], repeat)
    return [*found, Row("CLIP preprocessing", size, seconds)]
