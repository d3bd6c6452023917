"""What one run of the host's sampling keeps from step to step: in its transformer_options, where each forward finds it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...dynamicrafter_core.diffusion.reuse import KeptInner, ReusePlan
from ...dynamicrafter_core.models.hooks import NO_HOOKS, Hooks
from ...dynamicrafter_core.models.unet import VideoUNet

REUSE = "dynamicrafter_reuse"  # a RunReuse, made anew for each run


class RunReuse:
    def __init__(self, plan: ReusePlan, keeps_clip: bool) -> None:
        self.plan = plan
        self.keeps_clip = keeps_clip
        self.clip: Tensor | None = None
        self.inner = KeptInner(plan)
        self.level = -1.0
        self.calls: Counter = Counter()

    def number(self, level: float, key: tuple) -> tuple:
        """The key, and how often it came before at this level: some samplers and nodes (SAG, PAG) run a branch twice a step."""
        if level != self.level:
            self.level = level
            self.calls.clear()
        self.calls[key] += 1
        return (*key, self.calls[key])


def inner_hooks(options: Mapping[str, Any], unet: VideoUNet, x: Tensor) -> Hooks:
    """For a forward of rows x: a key for each branch of the host's batch, by its conditioning and its window of the clip."""
    run = options.get(REUSE)
    branches, conditionings = options.get("cond_or_uncond"), options.get("uuids")
    sigmas = options.get("sigmas")
    if run is None or not run.plan.reuses_inner or not branches or not conditionings or sigmas is None:
        return NO_HOOKS
    levels = set(sigmas.tolist())
    if len(levels) != 1 or len(branches) != len(conditionings):
        return NO_HOOKS
    level = levels.pop()
    window = options.get("context_window")
    frames = None if window is None else tuple(window.index_list)
    like = (tuple(x.shape[1:]), len(x) // len(branches), x.dtype, x.device)
    keys = [run.number(level, (*pair, frames, like)) for pair in zip(branches, conditionings, strict=True)]
    return run.inner.hooks(len(unet.input_blocks), level, keys)
