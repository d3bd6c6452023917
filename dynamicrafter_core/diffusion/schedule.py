"""The noise schedule: how much signal and how much noise a latent holds at each of the 1000 timesteps.

    x_t = sqrt(ac_t) s_t x_0 + sqrt(1 - ac_t) noise

`ac` (alphas_cumprod) falls from 0.99915 to 0.0047, or to exactly 0 with zero terminal SNR (Lin et al. 2023, "Common
Diffusion Noise Schedules and Sample Steps are Flawed"). `s` (the dynamic rescale) shrinks the data from 1 to
`base_scale` over the first 400 timesteps, so that large frames, whose pixels repeat each other, drown as small ones do.

Tables are float64 on the CPU; arithmetic on tensors is float32 at least, on the device of the tensors.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..checks import check_integer, check_number
from ..errors import InputError

TIMESTEPS = 1000
LINEAR_START, LINEAR_END = 0.00085, 0.012
TURNING_STEP = 400  # from here on the data keep the scale `base_scale`

Spacing = Literal["uniform", "uniform_trailing"]
SPACINGS: tuple[Spacing, ...] = ("uniform", "uniform_trailing")


@dataclass(frozen=True)
class NoiseSchedule:
    """One family's schedule and what its network predicts: "v" (Salimans & Ho 2022) or "eps", the noise.

    With `base_scale`, "v" rescales as DynamiCrafter does and "eps" as VideoCrafter does. They noise the data alike. In
    sampling, DynamiCrafter moves the data from one timestep's scale to the next and leaves them at the last one's;
    VideoCrafter brings them to scale 1, in the end too.
    """

    parameterization: Literal["v", "eps"]
    zero_snr: bool = False
    base_scale: float | None = None
    # Of the stored scale_arr, whose first 1000 values alone are used; VideoCrafter1 T2V 1024 stores no more (1000).
    scale_length: int = 1400

    def __post_init__(self) -> None:
        if self.parameterization not in ("v", "eps"):
            raise InputError(
                f"parameterization is {self.parameterization!r}; give what the network predicts, 'v' or 'eps'."
            )
        if self.base_scale is not None and check_number("base_scale", self.base_scale, 0, 1) == 0:
            raise InputError(
                "base_scale is 0, which leaves no data; give a number above 0 to 1, or None for no rescale."
            )
        check_integer("scale_length", self.scale_length, TIMESTEPS, 2 * TIMESTEPS)

    @cached_property
    def betas(self) -> Tensor:
        """[1000]; "linear" in the released configs' words, though it is the square root that runs linearly."""
        betas = torch.linspace(LINEAR_START**0.5, LINEAR_END**0.5, TIMESTEPS, dtype=torch.float64) ** 2
        if not self.zero_snr:
            return betas
        signal = torch.cumprod(1 - betas, 0).sqrt()
        signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
        cumulative = signal**2
        alphas = torch.cat([cumulative[:1], cumulative[1:] / cumulative[:-1]])
        return 1 - alphas

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """[1000]: the share of the variance at timestep t that is data."""
        return torch.cumprod(1 - self.betas, 0)

    @cached_property
    def scale_arr(self) -> Tensor | None:
        """[scale_length]: the dynamic rescale as checkpoints store it; None without one."""
        if self.base_scale is None:
            return None
        falling = torch.linspace(1, self.base_scale, TURNING_STEP, dtype=torch.float64)
        return torch.cat([falling, falling.new_full((self.scale_length - TURNING_STEP,), self.base_scale)])

    @cached_property
    def scale(self) -> Tensor:
        """[1000]: the factor on the data at timestep t; 1 everywhere without dynamic rescale."""
        return torch.ones(TIMESTEPS, dtype=torch.float64) if self.scale_arr is None else self.scale_arr[:TIMESTEPS]

    @cached_property
    def _signal(self) -> Tensor:
        return self.alphas_cumprod.sqrt()

    @cached_property
    def _noise(self) -> Tensor:
        return (1 - self.alphas_cumprod).sqrt()

    @cached_property
    def _inverse_signal(self) -> Tensor:
        """1/sqrt(ac); 0 where no signal is left: there a noise prediction says nothing of the data but their mean."""
        return torch.where(self._signal > 0, 1 / self._signal, 0.0)

    def q_sample(self, x0: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
        """Clean latents x0[B, ...] noised to timestep t (an int, or one per sample: [B])."""
        x0, noise = widen(x0), widen(noise)
        return _at(self._signal * self.scale, t, x0) * x0 + _at(self._noise, t, noise) * noise

    def target(self, x0: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
        """What the network is trained to answer for q_sample(x0, t, noise)."""
        x0, noise = widen(x0), widen(noise)
        if self.parameterization == "eps":
            return noise
        return _at(self._signal, t, noise) * noise - _at(self._noise * self.scale, t, x0) * x0

    def x0(self, output: Tensor, x: Tensor, t: int | Tensor) -> Tensor:
        """The data that the network's `output` for x_t = `x` stands for, at timestep t's scale."""
        output, x = widen(output), widen(x)
        if self.parameterization == "v":
            return _at(self._signal, t, x) * x - _at(self._noise, t, x) * output
        return _at(self._inverse_signal, t, x) * (x - _at(self._noise, t, x) * output)

    def clean(self, output: Tensor, x: Tensor, t: int | Tensor) -> Tensor:
        """The same at scale 1: the clip itself."""
        return self.x0(output, x, t) / _at(self.scale, t, x)

    def output(self, clean: Tensor, x: Tensor, t: int | Tensor) -> Tensor:
        """What the network would answer for x_t = `x`, if it stood for this clip: the inverse of clean()."""
        clean, x = widen(clean), widen(x)
        x0 = _at(self.scale, t, x) * clean
        if self.parameterization == "v":
            return (_at(self._signal, t, x) * x - x0) / _at(self._noise, t, x)
        return (x - _at(self._signal, t, x) * x0) / _at(self._noise, t, x)

    def eps(self, output: Tensor, x: Tensor, t: int | Tensor) -> Tensor:
        """The noise that the network's `output` for x_t = `x` stands for."""
        output, x = widen(output), widen(x)
        if self.parameterization == "eps":
            return output
        return _at(self._signal, t, x) * output + _at(self._noise, t, x) * x

    def registered_buffers(self) -> dict[str, Tensor]:
        """The top-level buffers of a released checkpoint: float32, [1000] each (scale_arr: [scale_length])."""
        betas, cumulative = self.betas, self.alphas_cumprod
        previous = torch.cat([torch.ones(1, dtype=torch.float64), cumulative[:-1]])
        posterior_variance = betas * (1 - previous) / (1 - cumulative)
        # The reference writes zeros for v models: with zero SNR the true values end in infinity.
        finite = self.parameterization == "eps"
        buffers = {
            "betas": betas,
            "alphas_cumprod": cumulative,
            "alphas_cumprod_prev": previous,
            "sqrt_alphas_cumprod": self._signal,
            "sqrt_one_minus_alphas_cumprod": self._noise,
            "log_one_minus_alphas_cumprod": (1 - cumulative).log(),
            "sqrt_recip_alphas_cumprod": (1 / cumulative).sqrt() if finite else torch.zeros_like(betas),
            "sqrt_recipm1_alphas_cumprod": (1 / cumulative - 1).sqrt() if finite else torch.zeros_like(betas),
            "posterior_variance": posterior_variance,
            "posterior_log_variance_clipped": posterior_variance.clamp(min=1e-20).log(),
            "posterior_mean_coef1": betas * previous.sqrt() / (1 - cumulative),
            "posterior_mean_coef2": (1 - previous) * (1 - betas).sqrt() / (1 - cumulative),
        }
        if self.scale_arr is not None:
            buffers["scale_arr"] = self.scale_arr
        return {name: buffer.float() for name, buffer in buffers.items()}


def ddim_timesteps(steps: int, spacing: Spacing, start: int = TIMESTEPS) -> list[int]:
    """The timesteps of a DDIM run: ascending (sampling walks them from the last to the first), distinct, below `start`.

    Where the reference's list is valid this is it; its `uniform` may hold more steps than asked for (31 for 30). Where
    it is not (it reaches `start` or -1), this one has exactly `steps` entries, spread as evenly. `start` is CIL's start
    step M: noise levels from M on are left out. Of more steps than `start`, there can be but `start`.
    """
    steps = check_integer("steps", steps, 1, TIMESTEPS)
    start = check_integer("start", start, 1, TIMESTEPS)
    if spacing not in SPACINGS:
        raise InputError(f"spacing is {spacing!r}; give 'uniform' (eps models) or 'uniform_trailing' (v models).")
    steps = min(steps, start)
    if spacing == "uniform_trailing":
        # numpy's own stepping and rounding to even, for they decide the ties. Its float error can add a stray 0 (so
        # t = -1) below the list, as for 61 steps; the last `steps` entries are the right list.
        falling = np.round(np.arange(start, 0, -start / steps))
        return (np.flip(falling)[-steps:].astype(int) - 1).tolist()
    listed = list(range(1, start + 1, start // steps))
    if listed[-1] < start:
        return listed
    first = min(1, start - steps)  # the list begins at 1; with all timesteps it must begin at 0
    return [first + i * (start - first) // steps for i in range(steps)]


def share_done(t: Tensor) -> float:
    """How much of a run from pure noise lies behind it at timesteps t [B], which are all the same: 0 to 1."""
    return 1 - t[0].item() / (TIMESTEPS - 1)


def widen(x: Tensor) -> Tensor:
    """float32 at least: half precision has too few digits for the last, nearly clean steps."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _at(table: Tensor, t: int | Tensor, like: Tensor) -> float | Tensor:
    """The table's value at t, ready to multiply `like`. Rounded on the CPU, for not every device knows float64."""
    if not isinstance(t, Tensor):
        return table[t].item()
    values = table.to(like.dtype).to(like.device)[t.to(like.device)]
    return values.reshape(-1, *[1] * (like.ndim - 1))  # b 1 1 ...
