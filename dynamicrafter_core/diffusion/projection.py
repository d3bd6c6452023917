"""Projected guidance (Sadat et al. 2024, "Eliminating Oversaturation and Artifacts of High Guidance Scales in Diffusion Models").

What guidance adds to a clip c has a part along c, which mostly raises contrast and saturation, and a part across it, which brings in
the condition. For each direction d of guidance, such as c - u:

    d <- d + momentum * (d of the step before)     below 0: what repeats from step to step counts less
    d <- d * min(1, norm / rms(d))                 strong steps count no more than others
    d <- across + parallel * along                 parallel 1 leaves d as it is

All of it is measured on the clean clip that the network predicts (x0), whatever the network answers: v mixes the clip with its noise,
so that "along v" is not "along the clip". And over a whole clip, as guidance rescale is: one factor for all frames, so that guidance
alters no differences between them that it did not make. `norm` is a root mean square, so that it means the same for all sizes.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_number

Memory = MutableMapping[str, Tensor]  # of one run: each direction as it was in the step before


@dataclass(frozen=True)
class Projection:
    parallel: float = 1.0
    norm: float = 0.0  # 0: any
    momentum: float = 0.0

    def __post_init__(self) -> None:
        check_number("the parallel part of guidance", self.parallel, 0, 1)
        check_number("the norm of guidance", self.norm, 0, 100)
        check_number("the momentum of guidance", self.momentum, -1, 1)

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return (self.parallel, self.norm, self.momentum) != (1, 0, 0)

    def apply(self, direction: Tensor, clip: Tensor, name: str, memory: Memory) -> Tensor:
        """A direction of guidance [B, ...] beside the conditional prediction of the clean clip; `name` is its place in `memory`."""
        over_clip = tuple(range(1, clip.ndim))
        if self.momentum:
            if name in memory:
                direction = direction + self.momentum * memory[name]
            memory[name] = direction
        if self.norm:
            rms = direction.square().mean(over_clip, keepdim=True).sqrt()
            direction = direction * (self.norm / rms.clamp(min=self.norm))
        if self.parallel == 1:
            return direction
        tiny = torch.finfo(clip.dtype).tiny  # of a clip of zeros, nothing is along it
        share = (direction * clip).sum(over_clip, keepdim=True) / clip.square().sum(over_clip, keepdim=True).clamp(
            min=tiny
        )
        return direction - (1 - self.parallel) * share * clip


AS_GIVEN = Projection()
