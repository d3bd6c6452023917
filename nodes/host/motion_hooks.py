"""Weights inside the UNet, out of a MODEL's transformer_options: hooks for one forward."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...dynamicrafter_core.diffusion.schedule import share_done
from ...dynamicrafter_core.models.hooks import NO_HOOKS, Hooks
from ...dynamicrafter_core.models.unet import VideoUNet

MOTION = "dynamicrafter_motion"  # one Motion for each node, in their order


def motion_hooks(options: Mapping[str, Any], unet: VideoUNet, timesteps: Tensor) -> Hooks:
    hooks = NO_HOOKS
    for motion in options.get(MOTION, ()):
        hooks = hooks.then(motion.hooks(unet.places, share_done(timesteps)))
    return hooks
