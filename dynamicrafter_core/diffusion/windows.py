"""Clips longer than a model was trained on: the whole network runs on windows of the clip, and their answers are fused.

Each window is a clip of the trained length to the network; where windows overlap, their predictions are averaged by weight in every
step (MultiDiffusion, Bar-Tal et al. 2023; over time: Gen-L-Video, Wang et al. 2023). The network's memory is that of one window.
Windows see one another only through the frames that they share. Two things tie them closer: wider windows of every second,
fourth, ... frame, and FreeNoise (Qiu et al. 2023), which gives all of them the same noise in another order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..checks import check_integer
from ..errors import InputError

Fuse = Literal["pyramid", "flat", "overlap-linear"]
FUSES: tuple[Fuse, ...] = get_args(Fuse)
Window = list[int]  # frames of the clip
GOLDEN = (5**0.5 - 1) / 2  # its multiples lie evenly between whole numbers


@dataclass(frozen=True)
class Windows:
    """`overlap` frames belong to two neighbours; a closed loop has windows that go on from the last frame to the first.

    The windows of a closed loop turn along it from step to step: none of its frames then is where two windows always meet.

    stride      above 1: there are also windows of every second frame, of every fourth, and so on up to this
    freenoise   frames after the first window begin with the noise of earlier ones, shuffled
    """

    length: int = 16
    overlap: int = 4
    fuse: Fuse = "pyramid"
    closed_loop: bool = False
    stride: int = 1
    freenoise: bool = False

    def __post_init__(self) -> None:
        check_integer("window", self.length, 2, 1024)
        check_integer("overlap", self.overlap, 0, 1023)
        check_integer("stride", self.stride, 1, 64)
        if self.overlap >= self.length:
            raise InputError(
                f"overlap is {self.overlap} and window is {self.length}; give an overlap below the window."
            )
        if self.fuse not in FUSES:
            raise InputError(f"fuse is {self.fuse!r}; give {', '.join(FUSES)}.")

    def turn(self, timestep: Tensor | float) -> int:
        """How many frames the windows of a closed loop are moved on at this timestep: as good as evenly over all timesteps."""
        return int(float(timestep) * GOLDEN % 1 * (self.length - self.overlap)) if self.closed_loop else 0

    def places(self, frames: int, turn: int = 0) -> list[Window]:
        """The frames of each window; the last one ends at the last frame. A clip of one window has one window."""
        if frames <= self.length:
            return [list(range(frames))]
        windows, gap = [], 1
        while gap <= self.stride and frames >= self.length * gap:
            for first in range(gap):
                windows += self._along(range(first, frames, gap))
            gap *= 2
        return [[(frame + turn) % frames for frame in window] for window in windows]

    def _along(self, row: Sequence[int]) -> list[Window]:
        """Windows over a row of frames that is longer than one."""
        count, step = len(row), self.length - self.overlap
        if self.closed_loop:
            return [[row[(start + k) % count] for k in range(self.length)] for start in range(0, count, step)]
        starts = [*range(0, count - self.length, step), count - self.length]
        return [list(row[start : start + self.length]) for start in starts]

    def weights(self, window: Window, frames: int) -> Tensor:
        """How much each frame of a window counts beside the others that have it."""
        count = len(window)
        if self.fuse == "pyramid":
            rising = torch.arange(1.0, count + 1)
            return rising.minimum(rising.flip(0))
        weights = torch.ones(count)
        if self.fuse == "overlap-linear" and count < frames:
            ramp, gap = torch.arange(1, self.overlap + 1) / (self.overlap + 1), window[1] - window[0]
            if self.closed_loop or window[0] >= gap:
                weights[: self.overlap] *= ramp
            if self.closed_loop or window[-1] + gap < frames:
                weights[count - self.overlap :] *= ramp.flip(0)
        return weights

    def shares(self, frames: int, turn: int = 0) -> list[tuple[Window, Tensor]]:
        """Each window with the weights of its frames, which sum to 1 for every frame of the clip."""
        windows = self.places(frames, turn)
        place, weights = torch.tensor(windows), torch.stack([self.weights(window, frames) for window in windows])
        total = torch.zeros(frames).index_add_(0, place.flatten(), weights.flatten())
        return list(zip(windows, weights / total[place], strict=True))


def fuse(windows: Windows, x: Tensor, run: Callable[[Window, Tensor], Sequence[Tensor]], turn: int = 0) -> list[Tensor]:
    """`run(window, x of its frames [B,C,T,h,w])` on every window of x -> the answers, each for the whole clip."""
    fused: list[Tensor] = []
    for window, share in windows.shares(x.shape[2], turn):
        place = torch.tensor(window, device=x.device)
        for index, answer in enumerate(run(window, x[:, :, place])):
            if index == len(fused):
                fused.append(answer.new_zeros(*answer.shape[:2], x.shape[2], *answer.shape[3:]))
            fused[index].index_add_(2, place, answer * share.to(answer)[:, None, None])
    return fused


def shuffle_noise(noise: Tensor, windows: Windows, seed: int) -> Tensor:
    """FreeNoise on x_T [B,C,T,h,w]: what follows the first window is the noise of the frames before it, in another order."""
    generator, frames = torch.Generator().manual_seed(seed), noise.shape[2]
    order = list(range(frames))
    for start in range(0, frames - windows.length, windows.length - windows.overlap):
        place = start + windows.length
        count = min(windows.length - windows.overlap, frames - place)
        order[place : place + count] = [order[start + k] for k in torch.randperm(count, generator=generator).tolist()]
    return noise[:, :, order]
