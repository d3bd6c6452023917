"""Clips longer than a model was trained on: the whole network runs on windows of the clip, and their answers are fused.

Each window is a clip of the trained length to the network; where windows overlap, their predictions are averaged by weight in every
step (MultiDiffusion, Bar-Tal et al. 2023; over time: Gen-L-Video, Wang et al. 2023). The network's memory is that of one window.
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


@dataclass(frozen=True)
class Windows:
    """`overlap` frames belong to two neighbours; a closed loop has windows that go on from the last frame to the first."""

    length: int = 16
    overlap: int = 4
    fuse: Fuse = "pyramid"
    closed_loop: bool = False

    def __post_init__(self) -> None:
        check_integer("window", self.length, 2, 1024)
        check_integer("overlap", self.overlap, 0, 1023)
        if self.overlap >= self.length:
            raise InputError(
                f"overlap is {self.overlap} and window is {self.length}; give an overlap below the window."
            )
        if self.fuse not in FUSES:
            raise InputError(f"fuse is {self.fuse!r}; give {', '.join(FUSES)}.")

    def places(self, frames: int) -> list[Window]:
        """The frames of each window; the last one ends at the last frame. A clip of one window has one window."""
        if frames <= self.length:
            return [list(range(frames))]
        step = self.length - self.overlap
        if self.closed_loop:
            return [[(start + k) % frames for k in range(self.length)] for start in range(0, frames, step)]
        starts = [*range(0, frames - self.length, step), frames - self.length]
        return [list(range(start, start + self.length)) for start in starts]

    def weights(self, window: Window, frames: int) -> Tensor:
        """How much each frame of a window counts beside the others that have it."""
        count = len(window)
        if self.fuse == "pyramid":
            return torch.tensor([float(min(k + 1, count - k)) for k in range(count)])
        weights = torch.ones(count)
        if self.fuse == "overlap-linear" and count < frames:
            ramp = torch.arange(1, self.overlap + 1) / (self.overlap + 1)
            if self.closed_loop or window[0] != 0:
                weights[: self.overlap] *= ramp
            if self.closed_loop or window[-1] != frames - 1:
                weights[count - self.overlap :] *= ramp.flip(0)
        return weights

    def shares(self, frames: int) -> list[tuple[Window, Tensor]]:
        """Each window with the weights of its frames, which sum to 1 for every frame of the clip."""
        placed = [(window, self.weights(window, frames)) for window in self.places(frames)]
        total = torch.zeros(frames)
        for window, weights in placed:
            total.index_add_(0, torch.tensor(window), weights)
        return [(window, weights / total[window]) for window, weights in placed]


def fuse(windows: Windows, x: Tensor, run: Callable[[Window, Tensor], Sequence[Tensor]]) -> list[Tensor]:
    """`run(window, x of its frames [B,C,T,h,w])` on every window of x -> the answers, each for the whole clip."""
    fused: list[Tensor] = []
    for window, share in windows.shares(x.shape[2]):
        place = torch.tensor(window, device=x.device)
        for index, answer in enumerate(run(window, x[:, :, place])):
            if index == len(fused):
                fused.append(answer.new_zeros(*answer.shape[:2], x.shape[2], *answer.shape[3:]))
            fused[index].index_add_(2, place, answer * share.to(answer)[:, None, None])
    return fused
