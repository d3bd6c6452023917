"""What a run begins with, x_T: normal noise whose frames may have something in common.

Frames with common noise tend to show common things, so that a clip flickers less. All kinds have variance 1 at every value;
the covariance of frames i and j is

    plain        0
    mixed        a^2 / (1 + a^2)                 PYoCo (Ge et al. 2023)
    progressive  (a^2 / (1 + a^2))^(|i - j| / 2)  PYoCo, each frame from the one before
    residual     s, or sqrt(s) with the middle frame     VideoFusion (Luo et al. 2023): that frame is the base of all

With a camera path (noise_path.py) the common part moves. `reinitialise` is FreeInit (Wu et al. 2024).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..checks import check_number
from ..errors import InputError
from .noise_path import Canvas, NoisePath
from .schedule import NoiseSchedule

Kind = Literal["plain", "mixed", "progressive", "residual"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MOST_ALPHA = 1e6  # frames that share all but a millionth
ALPHA, SHARE, CUTOFF = 1.0, 0.5, 0.25  # where none is given; FreeInit's paper has the last


@dataclass(frozen=True)
class NoisePrior:
    """`amount` is alpha (0 or more) of the mixed and progressive kinds, and the share (0 to 1) of the residual kind."""

    kind: Kind = "plain"
    amount: float | None = None
    path: NoisePath | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"noise is {self.kind!r}; give one of {', '.join(KINDS)}.")
        if self.kind == "plain" and self.amount is not None:
            raise InputError(
                f"plain noise is given the amount {self.amount!r}; leave it out: its frames share nothing."
            )
        if self.kind == "plain" and self.path is not None:
            raise InputError(
                "A camera path moves the noise that frames share, and frames of plain noise share none: choose residual, mixed or "
                "progressive noise."
            )
        if self.amount is not None and self.kind == "residual":
            check_number("the share of residual noise", self.amount, 0, 1)
        elif self.amount is not None:
            check_number(f"alpha of {self.kind} noise", self.amount, 0, MOST_ALPHA)

    def apply(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        """Plain noise [B,C,T,h,w] -> noise of this kind; what it needs beyond that comes from `generator`, a CPU one."""
        if self.kind == "plain":
            return noise
        if self.path is None:
            frames = self._frames(_draw(noise, generator, lambda frame: frame), noise.shape[2])
            return torch.stack(list(frames), 2)
        places = self.path.places(noise.shape[2], *noise.shape[3:])
        canvas = Canvas(places, *noise.shape[3:])
        fields = self._frames(_draw(noise, generator, lambda frame: canvas.draw(frame, generator)), noise.shape[2])
        return torch.stack([canvas.look(field, place) for field, place in zip(fields, places, strict=True)], 2)

    def of_steps(self, generator: torch.Generator) -> Callable[[int, torch.Size], Tensor] | None:
        """The fresh noise of every step, of this kind too; None for plain noise, which samplers draw themselves."""
        if self.kind == "plain":
            return None
        return lambda step, shape: self.apply(torch.randn(shape, generator=generator), generator)

    def _frames(self, drawn: Iterator[Tensor], count: int) -> Iterator[Tensor]:
        """Independent fields -> the fields of the frames, one after another."""
        if self.kind == "residual":
            share = SHARE if self.amount is None else self.amount
            base = next(drawn)
            for frame in range(count):
                yield base if frame == count // 2 else share**0.5 * base + (1 - share) ** 0.5 * next(drawn)
            return
        alpha = ALPHA if self.amount is None else self.amount
        common, own = alpha / (1 + alpha**2) ** 0.5, 1 / (1 + alpha**2) ** 0.5
        field = next(drawn)
        for frame in range(count):
            if self.kind == "mixed":
                yield common * field + own * next(drawn)
            else:
                field = common * field + own * next(drawn) if frame else field
                yield field


def read_noise(text: str, path_text: str = "") -> NoisePrior:
    """ "mixed 2" -> mixed noise of alpha 2; with a camera path, residual noise of share 1 is what moves if nothing is said."""
    path = NoisePath.read(path_text) if path_text.strip() else None
    if not text.strip():
        text = "plain" if path is None else "residual 1"
    kind, *amounts = text.split()
    try:
        amount = float(amounts[0]) if amounts else None
    except ValueError:
        amount = None
    if len(amounts) > 1 or (amounts and amount is None):
        raise InputError(f"noise is {text!r}; give a kind and an amount, such as 'mixed 2' or 'residual 0.5'.")
    return NoisePrior(kind, amount, path)  # type: ignore[arg-type]  # checked there


def check_signal(schedule: NoiseSchedule, start_step: int) -> None:
    """Refuses to reinitialise at a timestep that is noise alone, where nothing of the first clip would be left."""
    if schedule.alphas_cumprod[start_step - 1] == 0:
        raise InputError(
            f"FreeInit keeps the low frequencies of a first clip, and at start step {start_step} this model sees only "
            "noise: give a start step below 1000, such as 940."
        )


def reinitialise(
    clip: Tensor, noise: Tensor, fresh: Tensor, schedule: NoiseSchedule, start_step: int, cutoff: float = CUTOFF
) -> Tensor:
    """x_T for making a clip [B,C,T,h,w] once more: its low frequencies, noised as far as a run begins, and high ones of `fresh`.

    `noise` is what the clip was made from. Frequencies up to `cutoff`, a share of the highest, count as low.
    """
    low = _low_pass(clip.shape[2:], cutoff).to(clip.device)
    noised = torch.fft.fftn(schedule.q_sample(clip, start_step - 1, noise), dim=(2, 3, 4))
    new = torch.fft.fftn(fresh.float(), dim=(2, 3, 4))
    return torch.fft.ifftn(noised * low + new * (1 - low), dim=(2, 3, 4)).real.to(clip.dtype)


def _low_pass(shape: torch.Size, cutoff: float) -> Tensor:
    """FreeInit's Gaussian filter over time, height and width; 1 at frequency 0."""
    squares = [(torch.fft.fftfreq(side) * 2) ** 2 for side in shape]
    distance = squares[0][:, None, None] + squares[1][:, None] + squares[2]
    return torch.exp(-distance / (2 * cutoff**2))


def _draw(noise: Tensor, generator: torch.Generator, prepare: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """Field after field: first the frames of the plain noise, then as many more as are asked for."""
    for frame in noise.unbind(2):
        yield prepare(frame)
    while True:
        yield prepare(torch.randn(noise[:, :, 0].shape, generator=generator).to(noise))
