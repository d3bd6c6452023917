"""One sampling run as the host's own sampler nodes do it, by the sampler that the model was published with."""

from typing import Any

import comfy.model_management
import comfy.samplers
import comfy.utils
import latent_preview
from torch import Tensor

from .consistency import sample_consistency_in_host
from .ddim import sample_ddim_in_host
from .dual_guidance import FamilyGuider
from .images import check_finite
from .noise import Share


def published_sampler(eta: float, share: Share | None = None) -> comfy.samplers.KSAMPLER:
    return comfy.samplers.KSAMPLER(sample_as_published, {"eta": eta, "share": share})


def sample_as_published(model: Any, x: Tensor, sigmas: Tensor, *args: Any, eta: float, **named: Any) -> Tensor:
    """DDIM, or for a distilled model consistency sampling, which has no eta: each step puts back all the noise."""
    family = getattr(model.inner_model.inner_model, "family", None)
    if family is not None and family.consistency:
        return sample_consistency_in_host(model, x, sigmas, *args, **named)
    return sample_ddim_in_host(model, x, sigmas, *args, eta=eta, **named)


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
    check_finite(sampled)
    return {**latent, "samples": sampled.to(comfy.model_management.intermediate_device())}
