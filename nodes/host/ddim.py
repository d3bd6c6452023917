"""The DDIM of the released models as a SAMPLER and its timesteps as SIGMAS, exact to the core's `sample_ddim`.

The host's samplers already do eta 0 on the right schedule (see schedule.py). This one is for the rest of the reference: eta,
its variance under dynamic rescale, and its last step, which goes to ac[0] and not to 1.
"""

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...dynamicrafter_core.diffusion.sampling import DDIM
from ...dynamicrafter_core.diffusion.schedule import Spacing, ddim_timesteps
from ...dynamicrafter_core.errors import InputError
from .noise import Share, draw_step
from .schedule import FamilySampling, family_sampling


def ddim_sigmas(model: ModelPatcher, steps: int, spacing: Spacing, denoise: float, start: int = 1000) -> Tensor:
    """The sigmas of a DDIM run, noisiest first, and 0; with denoise below 1 the noisiest are left out."""
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, FamilySampling):
        raise InputError(
            f"The timesteps are those of this pack's models, but this MODEL samples with {type(sampling).__name__}: "
            "connect DynamiCrafterLoad, without a ModelSampling node after it."
        )
    timesteps = ddim_timesteps(steps, spacing, start)
    kept = timesteps[: max(1, round(denoise * len(timesteps)))] if denoise > 0 else []
    if not kept:
        return torch.empty(0)
    return torch.cat([sampling.sigmas[kept].flip(0).cpu(), torch.zeros(1)])


@torch.no_grad()
def sample_ddim_in_host(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Any = None,
    disable: bool | None = None,
    eta: float = 1.0,
    share: Share | None = None,
) -> Tensor:
    """The core's steps on the host's models: y in, timesteps found from the sigmas, y (or the last step's x) out."""
    extra_args = extra_args or {}
    sampling = family_sampling(model.inner_model.inner_model, "DynamiCrafterDDIM")
    ends_clean = float(sigmas[-1]) == 0
    timesteps = sampling.timestep(sigmas[:-1] if ends_clean else sigmas).tolist()
    ddim = DDIM(sampling.schedule, timesteps[::-1], eta)
    generator = torch.Generator().manual_seed(
        ((extra_args.get("seed") or 0) + 1) % 2**64
    )  # not the noise the run began with
    mask = extra_args.get("denoise_mask")
    ones = x.new_ones(x.shape[0])

    x = sampling.calculate_input(sigmas[0], x)  # from y, as the host has it, to the network's x_t
    for k in range(len(sigmas) - 1):
        sigma = sampling.sigmas[timesteps[k]].to(x)
        y = to_host(sampling, x, sigma)
        denoised = model(y, sigma * ones, **extra_args)
        output = sampling.network_output(sigma, denoised, y)
        noise = draw_step(x, generator, share) if eta else None
        if callback is not None:
            callback({"x": y, "i": k, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        x, _ = ddim.step(k, x, output, noise)
    if not ends_clean:
        return to_host(sampling, x, sampling.sigmas[timesteps[-1]].to(x))
    return x if mask is None else mask * x + (1 - mask) * model.latent_image


def to_host(sampling: FamilySampling, x: Tensor, sigma: Tensor) -> Tensor:
    """x_t as the network sees it -> y = x_0 + sigma noise."""
    s = sampling.scale(sigma)
    return x * (1 + (sigma * s) ** 2).sqrt() / s
