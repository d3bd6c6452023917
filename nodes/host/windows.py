"""The library's windows in the host: its own handler of context windows, with our frames and weights, set on a MODEL."""

import inspect
from typing import Any

from comfy.context_windows import (
    ContextFuseMethod,
    ContextSchedule,
    IndexListContextHandler,
    create_prepare_sampling_wrapper,
)
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...dynamicrafter_core.diffusion.windows import Windows, shuffle_noise
from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.models.layout import to_frames, to_volume
from .loading import family_of

HANDLER = "context_handler"  # the host's key
# Newer hosts put the frame before a window in front of it, for models that need one. Ours does not.
PLAIN = (
    {"causal_window_fix": False} if "causal_window_fix" in inspect.signature(IndexListContextHandler).parameters else {}
)


class FamilyWindows(IndexListContextHandler):
    """Combined prompts follow one another: each window gets that of the stretch its middle lies in."""

    def __init__(self, windows: Windows) -> None:
        self.windows, self.turn = windows, 0
        super().__init__(
            ContextSchedule("dynamicrafter", lambda frames, *_: windows.places(frames, self.turn)),
            ContextFuseMethod(
                "dynamicrafter", lambda length, full_length, idxs, **_: windows.weights(idxs, full_length)
            ),
            context_length=windows.length,
            context_overlap=windows.overlap,
            closed_loop=windows.closed_loop,
            freenoise=windows.freenoise,
            split_conds_to_windows=True,
            **PLAIN,
        )

    def execute(self, calc_cond_batch: Any, model: Any, conds: Any, x_in: Tensor, timestep: Tensor, *args: Any) -> Any:
        self.turn = self.windows.turn(
            model.model_sampling.timestep(timestep)[0]
        )  # the host says timestep, and means sigma
        return super().execute(calc_cond_batch, model, conds, x_in, timestep, *args)


def set_windows(model: ModelPatcher, windows: Windows) -> ModelPatcher:
    family = family_of(model, "DynamiCrafterWindows")
    if family.autoencoder.dual_reference:
        raise InputError(
            f"{family.title} decodes a clip as a whole, between its two ends: remove DynamiCrafterWindows, or join clips."
        )
    changed = model.clone()
    changed.model_options[HANDLER] = FamilyWindows(windows)
    create_prepare_sampling_wrapper(changed)  # the host makes room for one window
    if windows.freenoise:
        changed.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "dynamicrafter_freenoise", shuffled)
    return changed


def shuffled(
    executor: Any, guider: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor, *args: Any
) -> Any:
    handler = extra_args["model_options"].get(HANDLER)
    if isinstance(handler, FamilyWindows) and handler.windows.freenoise:
        noise = to_frames(shuffle_noise(to_volume(noise, len(noise)), handler.windows, extra_args["seed"]))
    return executor(guider, sigmas, extra_args, callback, noise, *args)
