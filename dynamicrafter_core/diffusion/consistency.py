"""Sampling of a consistency-distilled network (T2V-Turbo, Li et al. 2024): from noise to a video latent in 4 to 8 steps.

Each step jumps to the data at once, and all but the last put noise back for the next, with ac the share of data there:

    denoised = c_out x0 + c_skip x           c_skip = 0.25 / ((10 t)^2 + 0.25)
    x        = sqrt(ac) denoised + sqrt(1 - ac) noise

The guidance scale, and in some releases a motion scale, are inputs of the network: one pass a step, and no other branch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..checks import check_integer, check_number
from ..errors import InputError
from .sampling import Noise, OnStep, check_generator, check_latent
from .schedule import TIMESTEPS, NoiseSchedule, widen

DISTILLED = 50  # timesteps that the network was distilled on: 19, 39, ..., 999
PredictScaled = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def consistency_timesteps(steps: int) -> list[int]:
    """In the order they are executed: of the distilled timesteps from the top, every (50 // steps)-th."""
    steps = check_integer("steps", steps, 1, DISTILLED)
    distilled = range(TIMESTEPS - 1, 0, -(TIMESTEPS // DISTILLED))
    return list(distilled)[:: DISTILLED // steps][:steps]


@torch.no_grad()
def sample_consistency(
    predict: PredictScaled,
    x_T: Tensor,
    schedule: NoiseSchedule,
    steps: int = 4,
    guidance: float = 7.5,
    motion_scale: float | None = None,
    motion_share: float = 0.5,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Denoise x_T [B, ...] with `predict(x, t[B], guidance[B], motion_scale[B] or None) -> model output`.

    motion_scale     for a network that knows one. It counts in the first, noisy share of the timesteps, `motion_share`,
                     where motion is decided; after that it is 0
    noise(k, shape)  what is put back after the k-th step; by default drawn from `generator` (a CPU one, or torch's own)

    `on_step` and dtypes are as in sample_ddim.
    """
    check_latent(x_T)
    check_generator(generator)
    guidance = check_number("guidance", guidance)
    motion_scale = None if motion_scale is None else check_number("motion_scale", motion_scale)
    motion_share = check_number("motion_share", motion_share, 0, 1)
    timesteps = consistency_timesteps(steps)
    x = denoised = widen(x_T)

    def row(value: float | int) -> Tensor:
        return torch.full((len(x),), value, device=x.device)

    for k, t in enumerate(timesteps):
        motion = None if motion_scale is None else motion_scale_at(row(t), motion_scale, motion_share)
        output = predict(x.to(x_T.dtype), row(t), row(guidance), motion)
        if output.shape != x.shape:
            raise InputError(
                f"predict returned the shape {list(output.shape)} for {list(x.shape)}; it must keep the shape."
            )
        c_skip, c_out = boundary(t)
        denoised = x = c_out * schedule.x0(output, x, t) + c_skip * x
        if k + 1 < len(timesteps):
            drawn = torch.randn(x.shape, generator=generator) if noise is None else noise(k, x.shape)
            x = schedule.q_sample(denoised, timesteps[k + 1], drawn.to(x))
        if on_step is not None:
            on_step(k, len(timesteps), x, denoised)
    return denoised.to(x_T.dtype)


def motion_scale_at(timesteps: Tensor, motion_scale: float, share: float) -> Tensor:
    """The scale of motion guidance, b -> b: it counts in the noisiest `share` of the timesteps, where motion is decided."""
    return torch.where(timesteps < TIMESTEPS * (1 - share), 0.0, motion_scale).float()


def boundary(t: int) -> tuple[float, float]:
    """(c_skip, c_out): the nearer t is to 0, the more of the input is kept, which is then the data itself."""
    scaled = t / 0.1
    return 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25) ** 0.5
