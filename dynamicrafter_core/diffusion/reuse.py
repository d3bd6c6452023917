"""What a run of sampling need not compute in every step, because it changes little from one step to the next:

steps    the clip that the guided network sees behind the noise. In steps in which the network does not run it stands, and the sampler
         goes on towards it, through the same noise levels and with the same fresh noise as the full run
inner    the stream that leaves the inner, coarse blocks of the UNet (DeepCache, Ma et al. 2024). Between, the outer blocks alone run.
         It changes fast while a clip takes shape, and hardly while details do, so that this is for the second half of a run

docs/speed.md has what was measured.

Everything is kept for one run over one clip: what is kept lives in objects that are made for the run, and nowhere else.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checks import check_integer, check_number
from ..errors import InputError
from ..models.hooks import NO_HOOKS, Hooks, InnerHook, Where
from .guidance import Predict
from .schedule import NoiseSchedule

OUTER = 2  # input blocks, and as many output blocks, that run in every step of the network
BENT = 1.3  # above 1: the steps in which the network runs lie closer together towards the end of a run


@dataclass(frozen=True)
class Speed:
    steps: float = 1.0  # the share of the steps in which the network runs
    inner: int = 1  # in the second half of the run, of these only every n-th has all of the network

    def __post_init__(self) -> None:
        check_number("the share of steps", self.steps, 0, 1)
        check_integer("the interval of inner blocks", self.inner, 1, 1000)

    @classmethod
    def read(cls, text: str) -> "Speed":
        """A preset, or "steps 0.5, inner 2", of which either part may be left out."""
        if text.strip() in PRESETS:
            return PRESETS[text.strip()]
        kinds: dict[str, Callable[[str], Any]] = {"steps": float, "inner": int}
        given: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            try:
                word, number = part.split()
                given[word] = kinds[word](number)
            except (KeyError, ValueError):
                raise InputError(
                    f"speed holds {part!r}; give {', '.join(PRESETS)}, or parts such as 'steps 0.5' and 'inner 2', "
                    "separated by a comma."
                ) from None
        return cls(**given)


EXACT = Speed()
PRESETS = {"exact": EXACT, "balanced": Speed(0.4, 2), "fast": Speed(0.2, 2)}


@dataclass(frozen=True)
class ReusePlan:
    """At which of a run's noise levels the network runs, and at which of these all of it. Elsewhere, in doubt, all of it runs."""

    levels: tuple[float, ...] = ()  # noisiest first
    runs: tuple[int, ...] = ()  # places in the levels
    whole: tuple[int, ...] = ()

    @classmethod
    def of(cls, speed: Speed, levels: Sequence[float]) -> "ReusePlan":
        runs, half = spread(len(levels), speed.steps), len(levels) / 2
        before_last = range(
            len(runs) - 1, -1, -1
        )  # counted so, for the last step can do with the inner blocks of the one before
        whole = [
            place
            for place, left in zip(runs, before_last, strict=True)
            if place < half or left % speed.inner == speed.inner - 1
        ]
        return cls(tuple(levels), tuple(runs), tuple(whole))

    @property
    def reuses_inner(self) -> bool:
        return len(self.whole) < len(self.runs)

    def runs_at(self, level: float) -> bool:
        place = self._place(level)
        return place is None or place in self.runs

    def whole_at(self, level: float) -> bool:
        place = self._place(level)
        return place is None or place in self.whole

    def _place(self, level: float) -> int | None:
        near = (place for place, known in enumerate(self.levels) if math.isclose(known, level, rel_tol=1e-5))
        return next(near, None)


NOTHING_REUSED = ReusePlan()


def spread(total: int, share: float) -> list[int]:
    """This share of so many steps, rounded up: the first, the last, and those between closer together towards the last."""
    count = max(min(2, total), math.ceil(round(share * total, 6)))
    if count < 2:
        return list(range(total))
    places = [round((total - 1) * (1 - (1 - number / (count - 1)) ** BENT)) for number in range(count)]
    return [min(place, total - count + number) for number, place in enumerate(places)]


def keep_clip(predict: Predict, schedule: NoiseSchedule, plan: ReusePlan) -> Predict:
    """`predict`, asked only where the plan says so."""
    if len(plan.runs) == len(plan.levels):
        return predict
    clip: Tensor | None = None

    def kept(x: Tensor, t: Tensor) -> Tensor:
        nonlocal clip
        if clip is not None and not plan.runs_at(t[0].item()):
            return schedule.output(clip, x, t)
        output = predict(x, t)
        clip = schedule.clean(output, x, t)
        return output

    return kept


class KeptInner:
    """The streams that leave the inner blocks: one for each key, which stands for a branch of a clip (or of a window)."""

    def __init__(self, plan: ReusePlan) -> None:
        self.plan = plan
        self.level = math.inf
        self.streams: dict[Hashable, Tensor] = {}

    @property
    def bytes(self) -> int:
        return sum(stream.nbytes for stream in self.streams.values())

    def hooks(self, blocks: int, level: float, keys: Sequence[Hashable]) -> Hooks:
        """For a UNet of so many input blocks. Its rows are those of the keys, in their order and in equal shares."""
        if level > self.level or (level < self.level and self.plan.whole_at(level)):
            self.streams.clear()  # of more noise: a branch that has rested since, or a run that goes back to it, begins anew
        self.level = level
        if not self.plan.reuses_inner or blocks <= OUTER or len(set(keys)) < len(keys):
            return NO_HOOKS
        reused = not self.plan.whole_at(level)

        def around(compute: Callable[[], Tensor], where: Where) -> Tensor:
            known = [self.streams.get(key) for key in keys]
            kept = [stream for stream in known if stream is not None and stream.shape[2:] == where.shape[2:]]
            if reused and len(kept) == len(keys):
                return torch.cat(kept)
            stream = compute()
            # Copies: patches of a host write into the streams that they are given.
            self.streams.update((key, part.clone()) for key, part in zip(keys, stream.chunk(len(keys)), strict=True))
            return stream

        return Hooks(inner=InnerHook(f"output {blocks - OUTER}", around))
