"""Guidance of the host that measures a whole sample: here a sample is a clip, and a row is one frame of it.

RenormCFG limits the norm of the guided sample, and fails where a batch has several rows. It is called once a clip, with the
frames as a dimension of their own.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .conditions import FRAMES

PER_SAMPLE = ("RenormCFG",)  # node classes of the host
TENSORS = ("input", "cond", "uncond", "cond_denoised", "uncond_denoised")


def guide_whole_clips(executor: Any, *args: Any, **named: Any) -> Any:
    """A wrapper around a whole run; the host makes the guider's model options anew for each."""
    guider = executor.class_obj
    function = guider.model_options.get("sampler_cfg_function")
    if function is not None and function.__qualname__.split(".")[0] in PER_SAMPLE:
        guider.model_options["sampler_cfg_function"] = once_a_clip(function, guider)
    return executor(*args, **named)


def once_a_clip(function: Callable[[dict], Tensor], guider: Any) -> Callable[[dict], Tensor]:
    def guide(given: dict[str, Any]) -> Tensor:
        count = guider.conds["positive"][0]["model_conds"][FRAMES].cond
        clips = {name: given[name].chunk(count) for name in TENSORS}
        guided = [
            function({**given, **{name: clips[name][index].transpose(0, 1)[None] for name in TENSORS}})[0]
            for index in range(count)
        ]
        return torch.cat([clip.transpose(0, 1) for clip in guided])  # (b t) c h w

    return guide
