"""Classifier-free guidance for two conditions: the image and the text.

    out = u + s_image (i - u) + s_text (c - i)

u knows neither, i the image alone, c both (all three keep the image's latent in the UNet's input). With equal scales i
cancels, and this is the usual single guidance. The rescale pulls the guided output back to the spread of c (Lin et al.
2023, section 3.4), over the whole clip at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..checks import check_number
from ..errors import InputError
from .projection import AS_GIVEN, Memory, Projection
from .schedule import NoiseSchedule, share_done, widen

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
    projection: Projection = AS_GIVEN

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
        # The rescale and the projection measure cond, even where a text scale of 0 leaves nothing else of it.
        measured = self.rescale or self.projection
        return tuple(name for name, weight in weights.items() if weight or (name == "cond" and measured))

    def combine(
        self, cond: Tensor | None = None, uncond: Tensor | None = None, image_only: Tensor | None = None
    ) -> Tensor:
        """The guided output of the branches (those that vanish may be None)."""
        (_, out, _), *rest = self._chain({"uncond": uncond, "image_only": image_only, "cond": cond})
        previous = out
        for _, branch, scale in rest:
            out = out + scale * (branch - previous)
            previous = branch
        return self.rescaled(out, cond) if cond is not None and rest else out

    def project(self, clean: Mapping[str, Tensor], memory: Memory) -> Tensor:
        """The guided clean clip [B, ...] of those that the branches predict, cond among them.

        combine's sum, written from c on: u + s (c - u) is c + (s - 1) (c - u), and likewise with i between them. Each of the directions
        is projected by itself.
        """
        cond = out = widen(clean["cond"])
        (before, previous, _), *rest = self._chain(clean)
        for name, branch, scale in rest:
            direction = self.projection.apply(branch - previous, cond, f"{before} to {name}", memory)
            out = out + (scale - 1) * direction
            before, previous = name, branch
        return out

    def rescaled(self, out: Tensor, cond: Tensor) -> Tensor:
        """A guided output, with its spread pulled back to cond's as far as is asked for."""
        return _rescale(out, widen(cond), self.rescale) if self.rescale else out

    def _chain(self, branches: Mapping[str, Tensor | None]) -> list[tuple[str, Tensor, float]]:
        """Branches with the scales of the steps that lead to them.

        A vanishing one drops out, and its neighbours meet: without i it is u + s (c - u), and so on.
        """
        scales = {"uncond": 1.0, "image_only": self._image_scale, "cond": self.text_scale}
        chain = [(name, branches.get(name), scale) for name, scale in scales.items()]
        return [(name, widen(branch), scale) for name, branch, scale in chain if branch is not None]


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


def guided(run: RunBranches, guidance: OverRun, schedule: NoiseSchedule | None = None) -> Predict:
    """A `predict(x, t)` for one run of a sampler: `run(x, t, branches)` computes the named branches, and none that vanishes.

    Projected guidance needs the schedule, to see the clean clip in what the network answers.
    """
    memory: Memory = {}

    def predict(x: Tensor, t: Tensor) -> Tensor:
        now = guidance.at(share_done(t))
        names = now.branches
        outputs = dict(zip(names, run(x, t, names), strict=True))
        if not now.projection or names == ("cond",):
            return now.combine(**outputs)
        if schedule is None:
            raise InputError("projected guidance needs the noise schedule; give it to guided() beside the guidance.")
        clean = now.project({name: schedule.clean(output, x, t) for name, output in outputs.items()}, memory)
        return now.rescaled(schedule.output(clean, x, t), outputs["cond"])

    return predict


def _rescale(out: Tensor, cond: Tensor, amount: float) -> Tensor:
    clip = tuple(range(1, out.ndim))  # everything but the batch
    spread, wanted = out.std(clip, keepdim=True), cond.std(clip, keepdim=True)
    factor = torch.where(spread > 0, wanted / spread, 1.0)  # a flat output has no spread to correct
    return amount * factor * out + (1 - amount) * out
