"""DDIM (Song et al. 2021): from noise to a video latent, exact to the reference's trajectories.

One step, with ac the share of data at this timestep t and at the previous (less noisy) one:

    x_prev = sqrt(ac_prev) x0 + sqrt(1 - ac_prev - sigma^2) eps + sigma noise
    sigma  = eta sqrt((1 - ac_prev) / (1 - ac_t)) sqrt(1 - ac_t / ac_prev)

The last step goes to ac[0] = 0.99915, not to 1: the released models were always used so.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..checks import check_integer, check_number
from ..errors import InputError
from .guidance import Predict
from .schedule import TIMESTEPS, NoiseSchedule, Spacing, ddim_timesteps, share_done, widen

Noise = Callable[[int, torch.Size], Tensor]
OnStep = Callable[[int, int, Tensor, Tensor], object]


class DDIM:
    """The steps of one run in the order they are executed; step k leads from timesteps[k] to the next of them."""

    def __init__(self, schedule: NoiseSchedule, timesteps: Sequence[int], eta: float) -> None:
        """`timesteps` ascend, as ddim_timesteps gives them."""
        check_number("eta", eta, 0, 1)
        self.schedule = schedule
        self.timesteps = [int(t) for t in reversed(timesteps)]
        now = np.array(self.timesteps, dtype=np.int64)
        following = np.append(now[1:], 0)
        # Rounded to float32 where the reference rounds: with zero SNR the first radicand is then not 0 but a rounding
        # error, which its trajectories show where it is positive (50 steps) and which made them NaN where it is
        # negative (20, 25, ...). Here that is clamped.
        rounded = schedule.alphas_cumprod.float().numpy()
        ac, ac_prev = rounded[now].astype(np.float64), rounded[following].astype(np.float64)
        sigma = (eta * np.sqrt((1 - ac_prev) / (1 - ac) * (1 - ac / ac_prev))).astype(np.float32)
        radicand = (1 - rounded[following]) - sigma**2
        self.sigma: np.ndarray = sigma.astype(np.float64)
        self.direction: np.ndarray = np.sqrt(radicand.clip(min=0)).astype(np.float64)
        self.signal: np.ndarray = np.sqrt(ac_prev)
        scale = schedule.scale.numpy()
        if schedule.parameterization == "v":  # DynamiCrafter: from scale to scale, the last step keeps its own
            self.x0_factor = scale[following] / scale[now]
            self.x0_factor[-1:] = 1
        else:  # VideoCrafter: x0 at scale 1, the last step goes to scale[0] = 1
            self.x0_factor = 1 / scale[now]
            self.signal = self.signal * scale[following]

    def __len__(self) -> int:
        return len(self.timesteps)

    def step(self, k: int, x: Tensor, output: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(x after step k, the x0 it aims at), from the network's `output` for x; eta 0 needs no noise."""
        t = self.timesteps[k]
        x0 = float(self.x0_factor[k]) * self.schedule.x0(output, x, t)
        x = float(self.signal[k]) * x0 + float(self.direction[k]) * self.schedule.eps(output, x, t)
        return (x if noise is None else x + float(self.sigma[k]) * noise), x0


@torch.no_grad()
def sample_ddim(
    predict: Predict,
    x_T: Tensor,
    schedule: NoiseSchedule,
    steps: int,
    spacing: Spacing,
    eta: float = 1.0,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    *,
    start: int = TIMESTEPS,
    strength: float = 1.0,
    original: Tensor | None = None,
    mask: Tensor | None = None,
    clean_mask: bool = False,
    lead: Tensor | None = None,
    lead_until: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Denoise x_T [B, ...] with `predict(x, t[B]) -> guided model output`.

    noise(k, shape)  the k-th executed step's noise; by default drawn from `generator` (a CPU one, or torch's own), on
                     the CPU, so that a seed gives the same video on every device
    on_step(k, total, x, x0)  is told of every step done
    start            CIL's start step M: the noisiest timestep is M - 1
    strength         below 1, `original` is noised with x_T to that share of the steps, which alone are executed
    mask             1 keeps `original`, 0 makes new; broadcast to x_T, so it may mark frames, places or both. Before
                     each step the kept part is renoised to its timestep, or put in noiseless with `clean_mask`; the
                     result holds the original's own values there.
    lead             the same as a mask, but only up to the share `lead_until` of the run: there `original` leads, and what
                     comes later is free (Time-to-Move, Singer et al. 2025)

    x_T's dtype is what `predict` sees and what comes back; in between all is float32 (or float64).
    """
    check_latent(x_T)
    strength = check_number("strength", strength, 0, 1)
    lead_until = check_number("lead_until", lead_until, 0, 1)
    if original is None and (strength < 1 or mask is not None or lead is not None):
        raise InputError(
            "original is missing; a strength below 1, a mask and a lead need the latents they start from, keep or follow."
        )
    check_generator(generator)
    original = None if original is None else _fit("original", original, x_T)
    mask = None if mask is None else _fit_mask("mask", mask, x_T)
    lead = None if lead is None else _fit_mask("lead", lead, x_T)

    ddim = DDIM(schedule, executed_timesteps(steps, spacing, start, strength), eta)
    x = widen(x_T)
    if original is not None and strength == 0:
        return original.to(x_T.dtype, copy=True)
    if original is not None and strength < 1:
        x = schedule.q_sample(original, ddim.timesteps[0], x)

    def draw() -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x)

    for k, t in enumerate(ddim.timesteps):
        now = torch.full((len(x),), t, device=x.device)
        held = mask
        if lead is not None and share_done(now) < lead_until:
            held = lead if mask is None else torch.maximum(mask, lead)
        if held is not None and original is not None:
            kept = original if clean_mask else schedule.q_sample(original, t, draw())
            x = held * kept + (1 - held) * x
        output = predict(x.to(x_T.dtype), now)
        if output.shape != x.shape:
            raise InputError(
                f"predict returned the shape {list(output.shape)} for {list(x.shape)}; it must keep the shape."
            )
        step_noise = None if not eta else draw() if noise is None else noise(k, x.shape).to(x)
        x, x0 = ddim.step(k, x, output, step_noise)
        if on_step is not None:
            on_step(k, len(ddim), x, x0)
    if mask is not None and original is not None:
        x = mask * original + (1 - mask) * x
    return x.to(x_T.dtype)


def executed_timesteps(steps: int, spacing: Spacing, start: int = TIMESTEPS, strength: float = 1.0) -> list[int]:
    """Those of a run of sample_ddim, ascending."""
    timesteps = ddim_timesteps(steps, spacing, start)
    return timesteps[: max(1, round(strength * len(timesteps)))]


def analytic_noise(
    noise: Tensor, schedule: NoiseSchedule, start: int, expectation: Tensor, trace_covariance: float
) -> Tensor:
    """x_T for a run from CIL's start step: the data's own mean and spread at that noise level, not N(0, 1).

    `noise` [B, ...] is standard normal; `expectation` (`Expectation_X0`) and `trace_covariance` (`Tr_Cov_d`, the
    variance per element) were measured over the training latents (Analytic-Init, Zhao et al. 2024).
    """
    check_latent(noise)
    start = check_integer("start", start, 1, TIMESTEPS)
    variance = check_number("trace_covariance", trace_covariance, 0)
    mean = _fit("expectation", expectation, noise)
    ac = schedule.alphas_cumprod[start - 1].item()
    return (ac**0.5 * mean + (1 - ac + ac * variance) ** 0.5 * widen(noise)).to(noise.dtype)


def check_generator(generator: torch.Generator | None) -> None:
    if generator is not None and generator.device.type != "cpu":
        raise InputError(f"generator is on {generator.device}; give a CPU one: its seed means the same on all devices.")


def check_latent(x: Tensor) -> None:
    if not x.is_floating_point() or x.ndim < 2 or not x.numel():
        raise InputError(
            f"the noise is a {x.dtype} tensor of shape {list(x.shape)}; give floating-point latents [B, C, T, h, w] "
            "with no side of length 0."
        )


def _fit_mask(name: str, value: Tensor, x: Tensor) -> Tensor:
    mask = _fit(name, value, x)
    if not ((mask >= 0) & (mask <= 1)).all():
        raise InputError(f"{name} holds values from {mask.min():g} to {mask.max():g}; give 0 (make new) to 1 (keep).")
    return mask


def _fit(name: str, value: Tensor, x: Tensor) -> Tensor:
    """`value` broadcast to x, on x's device, in the precision the sampler works in."""
    try:
        value = value.broadcast_to(x.shape)
    except RuntimeError:
        raise InputError(
            f"{name} has shape {list(value.shape)}; give one that broadcasts to the latents' {list(x.shape)}."
        ) from None
    if not torch.isfinite(value).all():
        raise InputError(f"{name} holds NaN or infinity; give finite values.")
    return value.to(x.device, torch.promote_types(x.dtype, torch.float32))
