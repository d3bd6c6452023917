"""Guidance of the host that fails where a batch has several rows: here a sample is a clip, and a row is one frame of it.

RenormCFG limits the norm of the guided sample: it is called once a clip, with the frames as a dimension of their own.
TemporalScoreRescaling asks for one sigma: it gets one, which all rows share.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .conditioning import FRAMES

PER_SAMPLE = "RenormCFG"  # node classes of the host, by which their functions are known
ONE_SIGMA = "TemporalScoreRescaling"
TENSORS = ("input", "cond", "uncond", "cond_denoised", "uncond_denoised")


def guide_whole_clips(executor: Any, *args: Any, **named: Any) -> Any:
    """A wrapper around a whole run; the host makes new model options of the guider for each."""
    guider = executor.class_obj
    options = guider.model_options
    if made_by(options.get("sampler_cfg_function"), PER_SAMPLE):
        options["sampler_cfg_function"] = once_a_clip(options["sampler_cfg_function"], guider)
    after = options.get("sampler_post_cfg_function", [])
    if any(made_by(function, ONE_SIGMA) for function in after):
        options["sampler_post_cfg_function"] = [
            with_one_sigma(function) if made_by(function, ONE_SIGMA) else function for function in after
        ]
    return executor(*args, **named)


def made_by(function: Any, node: str) -> bool:
    return getattr(function, "__qualname__", "").startswith(f"{node}.")


def with_one_sigma(function: Callable[[dict], Tensor]) -> Callable[[dict], Tensor]:
    return lambda given: function({**given, "sigma": given["sigma"][:1]})


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
