"""Classifier-free guidance for two conditions: the image and the text.

    out = u + s_image (i - u) + s_text (c - i)

u knows neither, i the image alone, c both (all three keep the image's latent in the UNet's input). With equal scales i
cancels, and this is the usual single guidance. The rescale pulls the guided output back to the spread of c (Lin et al.
2023, section 3.4), over the whole clip at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..checks import check_number
from .schedule import share_done, widen

Predict = Callable[[Tensor, Tensor], Tensor]
RunBranches = Callable[[Tensor, Tensor, tuple[str, ...]], Sequence[Tensor]]


class OverRun(Protocol):
    def at(self, done: float) -> "Guidance":
        """The guidance of the step before which a share `done` of the run lies."""


@dataclass(frozen=True)
class Guidance:
    """The scales of one step. `image_scale` None, or equal to the text's: no separate image guidance."""

    text_scale: float
    image_scale: float | None = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        check_number("text scale", self.text_scale)
        if self.image_scale is not None:
            check_number("image scale", self.image_scale)
        check_number("guidance rescale", self.rescale, 0, 1)

    @property
    def _image_scale(self) -> float:
        return self.text_scale if self.image_scale is None else self.image_scale

    def at(self, done: float) -> "Guidance":
        """The same in every step; a GuidancePlan changes."""
        return self

    @property
    def branches(self) -> tuple[str, ...]:
        """Which of "cond", "uncond", "image_only" have a say in the result, in that order; the others need no pass."""
        image_scale = self._image_scale
        weights = {"cond": self.text_scale, "uncond": 1 - image_scale, "image_only": image_scale - self.text_scale}
        # The rescale measures cond, even where a text scale of 0 leaves nothing else of it.
        return tuple(name for name, weight in weights.items() if weight or (name == "cond" and self.rescale))

    def combine(
        self, cond: Tensor | None = None, uncond: Tensor | None = None, image_only: Tensor | None = None
    ) -> Tensor:
        """The guided output of the branches (those that vanish may be None)."""
        chain = [(uncond, 1.0), (image_only, self._image_scale), (cond, self.text_scale)]
        # A vanishing branch drops out of the chain, and its neighbours meet: without i it is u + s (c - u), and so on.
        (out, _), *rest = [(widen(branch), scale) for branch, scale in chain if branch is not None]
        previous = out
        for branch, scale in rest:
            out = out + scale * (branch - previous)
            previous = branch
        if self.rescale and cond is not None and rest:
            out = _rescale(out, widen(cond), self.rescale)
        return out


def guide(
    cond: Tensor,
    uncond: Tensor | None,
    image_only: Tensor | None,
    text_scale: float,
    image_scale: float | None,
    rescale: float,
) -> Tensor:
    """The guided model output [B, ...]: single guidance without `image_only`; without `uncond`, `cond` as it is."""
    guidance = Guidance(text_scale, image_scale if image_only is not None else None, rescale)
    if uncond is None:
        return widen(cond)
    return guidance.combine(cond, uncond, image_only)


def guided(run: RunBranches, guidance: OverRun) -> Predict:
    """A `predict(x, t)` for the sampler: `run(x, t, branches)` computes the named branches, and none that vanishes."""

    def predict(x: Tensor, t: Tensor) -> Tensor:
        now = guidance.at(share_done(t))
        names = now.branches
        return now.combine(**dict(zip(names, run(x, t, names), strict=True)))

    return predict


def _rescale(out: Tensor, cond: Tensor, amount: float) -> Tensor:
    clip = tuple(range(1, out.ndim))  # everything but the batch
    spread, wanted = out.std(clip, keepdim=True), cond.std(clip, keepdim=True)
    factor = torch.where(spread > 0, wanted / spread, 1.0)  # a flat output has no spread to correct
    return amount * factor * out + (1 - amount) * out
