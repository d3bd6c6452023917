"""The family's noise schedules as the host's ModelSampling, so that every sampler and scheduler of the host is right.

The host works on y = x_0 + sigma noise. The family's x_t = sqrt(ac) s x_0 + sqrt(1 - ac) noise, where s is the dynamic rescale,
is that with sigma' = sqrt((1 - ac) / ac) / s: the rescale is a schedule, no matter of the sampler. The network sees x_t = y
scaled by s / sqrt(1 + (sigma' s)^2).
"""

import comfy.model_sampling
import torch
from comfy.model_sampling import reshape_sigma
from torch import Tensor

from ...dynamicrafter_core.diffusion.schedule import NoiseSchedule
from ...dynamicrafter_core.errors import InputError

# The host's own stand-in for a terminal SNR of zero, whose sigma would be infinite.
TERMINAL_SIGNAL = 4.8973451890853435e-08


class FamilySampling(comfy.model_sampling.ModelSamplingDiscrete):
    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.schedule = schedule
        ac = schedule.alphas_cumprod.clamp(min=TERMINAL_SIGNAL)
        self.set_sigmas(((1 - ac) / ac).sqrt() / schedule.scale)
        self.register_buffer("scales", schedule.scale.float())

    def scale(self, sigma: Tensor) -> Tensor:
        """s at any sigma', between two timesteps linear in log sigma'."""
        table = self.log_sigmas
        at = sigma.log().to(table)
        high = torch.searchsorted(table, at.contiguous()).clamp(1, len(table) - 1)
        share = ((at - table[high - 1]) / (table[high] - table[high - 1])).clamp(0, 1)
        return torch.lerp(self.scales[high - 1], self.scales[high], share).to(sigma)

    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        s = self.scale(sigma)
        return super().calculate_input(sigma * s, noise * reshape_sigma(s, noise.ndim))

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        s = self.scale(sigma)
        wide = reshape_sigma(s, model_output.ndim)
        return super().calculate_denoised(sigma * s, model_output, model_input * wide) / wide

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False) -> Tensor:
        if not max_denoise:
            return super().noise_scaling(sigma, noise, latent_image, max_denoise)
        s = reshape_sigma(self.scale(sigma), noise.ndim)
        sigma = reshape_sigma(sigma, noise.ndim)
        return (
            noise * (1 + (sigma * s) ** 2).sqrt() / s + latent_image
        )  # what the network then sees is the noise itself

    def network_output(self, sigma: Tensor, denoised: Tensor, model_input: Tensor) -> Tensor:
        """The inverse of calculate_denoised: guidance rescale and DDIM are defined on what the network answers."""
        s = reshape_sigma(self.scale(sigma), denoised.ndim)
        sigma = reshape_sigma(sigma, denoised.ndim)
        if self.schedule.parameterization == "eps":
            return (model_input - denoised) / sigma
        spread = 1 + (sigma * s) ** 2
        return (model_input / spread - denoised) * spread.sqrt() / sigma


class EpsSampling(FamilySampling, comfy.model_sampling.EPS):
    pass


class VSampling(FamilySampling, comfy.model_sampling.V_PREDICTION):
    pass


def model_sampling(schedule: NoiseSchedule) -> FamilySampling:
    return (VSampling if schedule.parameterization == "v" else EpsSampling)(schedule)


def family_sampling(model: object, what: str) -> FamilySampling:
    """The sampling of a MODEL's inner model, for `what` that works on the family's own timesteps."""
    sampling = getattr(model, "model_sampling", None)
    if not isinstance(sampling, FamilySampling):
        raise InputError(
            f"{what} needs the model's own noise schedule, but this MODEL has {type(sampling).__name__}: remove the "
            "ModelSampling node after the loader, and use only MODELs of this pack."
        )
    return sampling
