"""One sampling run as the host's own sampler nodes do it: their noise, their previews, their progress bar."""

from typing import Any

import comfy.model_management
import comfy.samplers
import comfy.utils
import latent_preview
from torch import Tensor

from .dual_guidance import FamilyGuider


def sample(
    guider: FamilyGuider,
    sampler: comfy.samplers.KSAMPLER,
    sigmas: Tensor,
    latent: dict[str, Any],
    noise: Tensor,
    seed: int,
    mask: Tensor | None = None,
) -> dict[str, Any]:
    """LATENT in, LATENT out. A mask, here or in the latent, is 1 where the video is generated."""
    samples = latent["samples"]
    if mask is not None:
        mask = mask.reshape(-1, 1, *mask.shape[-2:])
    sampled = guider.sample(
        noise,
        samples,
        sampler,
        sigmas,
        denoise_mask=latent.get("noise_mask") if mask is None else mask,
        callback=latent_preview.prepare_callback(guider.model_patcher, max(1, len(sigmas) - 1)),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    return {**latent, "samples": sampled.to(comfy.model_management.intermediate_device())}
