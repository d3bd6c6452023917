"""Consistency sampling as a SAMPLER and its timesteps as SIGMAS, exact to the core's `sample_consistency`.

The UNet takes the guidance scale and the motion scale as inputs. They travel in CONDITIONING (see conditioning.py), so that any
sampler of the host can run the model too.
"""

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...dynamicrafter_core.diffusion.consistency import boundary, consistency_timesteps
from .noise import Share, draw_step
from .schedule import family_sampling


def consistency_sigmas(model: ModelPatcher, steps: int, denoise: float) -> Tensor:
    """Noisiest first, and 0; with denoise below 1 the noisiest are left out."""
    sampling = family_sampling(model.model, "The consistency schedule")
    timesteps = consistency_timesteps(steps)
    kept = timesteps[len(timesteps) - max(1, round(denoise * len(timesteps))) :] if denoise > 0 else []
    return torch.cat([sampling.sigmas[kept].cpu(), torch.zeros(1)]) if kept else torch.empty(0)


@torch.no_grad()
def sample_consistency_in_host(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Any = None,
    disable: bool | None = None,
    share: Share | None = None,
) -> Tensor:
    """y = x_0 + sigma noise in, as the host has it, and the last step's data out."""
    extra_args = extra_args or {}
    sampling = family_sampling(model.inner_model.inner_model, "The consistency sampler")
    generator = torch.Generator().manual_seed(
        ((extra_args.get("seed") or 0) + 1) % 2**64
    )  # not the noise the run began with
    ones = x.new_ones(x.shape[0])
    for k, (sigma, following) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        denoised = model(x, sigma * ones, **extra_args)
        c_skip, c_out = boundary(int(sampling.timestep(sigma)))
        denoised = c_out * denoised + c_skip * sampling.calculate_input(sigma, x)
        if callback is not None:
            callback({"x": x, "i": k, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        x = denoised
        if following > 0:
            x = x + following * draw_step(x, generator, share)
    return x
