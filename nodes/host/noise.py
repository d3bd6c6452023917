"""What a run begins with: plain noise, or noise with the mean and the spread of the videos a model was trained on.

The released models begin with x_T itself. The host scales what it is given down to the first sigma, as if a signal of zero were
beside it; what is handed to it here is divided by that beforehand.
"""

import math
from collections.abc import Callable
from typing import Any

import comfy.sample
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...dynamicrafter_core.checkpoints.initial_noise import read_initial_noise
from ...dynamicrafter_core.diffusion.sampling import analytic_noise
from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.models.layout import to_frames, to_volume
from .images import size_in_pixels
from .schedule import FamilySampling

Share = Callable[
    [Tensor, torch.Generator], Tensor
]  # plain noise (b t) c h w -> noise that the frames of each clip share


def draw(latent: dict[str, Any], seed: int) -> Tensor:
    return comfy.sample.prepare_noise(latent["samples"], seed, latent.get("batch_index"))


def draw_step(x: Tensor, generator: torch.Generator, share: Share | None) -> Tensor:
    """A step's fresh noise, on the CPU first, so that a seed means the same on every device."""
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float32)
    return (noise if share is None else share(noise, generator)).to(x)


def begin(
    model: ModelPatcher, noise: Tensor, sigmas: Tensor, start: int, frames: int | None, file: str | None
) -> Tensor:
    """Noise for a whole run, from its first sigma; measured over the training videos if `file` is given."""
    sampling = model.get_model_object("model_sampling")
    if not len(sigmas):
        return noise
    if file is not None:
        expectation, variance = read_initial_noise(file)
        volume = to_volume(noise, frames or len(noise))
        check_shape(file, expectation, volume, model.model.family.autoencoder.size_factor)
        noise = to_frames(analytic_noise(volume, sampling.schedule, start, expectation, variance))
    return noise / seen_by_host(sampling, sigmas[0])


def seen_by_host(sampling: FamilySampling, sigma: Tensor) -> Tensor:
    """Of noise at the first sigma, as the host adds it: sqrt(1 - ac), but all of it at the last timestep there is."""
    if math.isclose(float(sampling.sigma_max), float(sigma), rel_tol=1e-5):
        return torch.ones(())
    spread = sigma * sampling.scale(sigma)
    return spread / (1 + spread**2).sqrt()


def check_shape(file: str, expectation: Tensor, volume: Tensor, cell: int) -> None:
    if expectation.shape[2:] != volume.shape[2:]:
        was, are = (f"{each.shape[2]} frames of {size_in_pixels(each, cell)}" for each in (expectation, volume))
        raise InputError(
            f"The initial noise of {file} was measured on {was} pixels, and these clips are {are}: use that size, or choose "
            "another file or none."
        )
