"""Reuse between steps, set on a MODEL: what a run keeps is made when the run begins, and gone when it ends."""

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...dynamicrafter_core.diffusion.reuse import EXACT, ReusePlan, Speed
from ...dynamicrafter_core.errors import InputError
from .loading import family_of
from .reuse_hooks import REUSE, RunReuse
from .sampling_run import sample_as_published

SPEED = "dynamicrafter_speed"
NODE = "DynamiCrafterSpeed"
# Samplers that go from each step straight towards its clean clip. Others compare the clips of several steps, for which it must be new.
STRAIGHT = (sample_as_published.__name__, "sample_euler", "sample_euler_ancestral", "sample_lcm")


def set_speed(model: ModelPatcher, speed: Speed) -> ModelPatcher:
    family = family_of(model, NODE)
    if family.consistency and speed != EXACT:
        raise InputError(
            f"{family.title} is distilled: each of its few steps changes a lot, and none can be reused; set speed to "
            f"exact, or remove {NODE}."
        )
    changed = model.clone()
    for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.PREDICT_NOISE):
        changed.remove_wrappers_with_key(kind, SPEED)
    changed.model_options[SPEED] = speed
    if speed != EXACT:
        changed.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, SPEED, keep_for_this_run)
        changed.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, SPEED, keep_clip)
    return changed


def speed_of(model: ModelPatcher) -> Speed:
    return model.model_options.get(SPEED, EXACT)


def plan_of(speed: Speed, sampler: Any, sigmas: Tensor) -> ReusePlan:
    """Of a sampler that needs every step's clip, all steps run, and only their inner blocks are reused."""
    if not goes_straight(sampler):
        speed = Speed(inner=speed.inner)
    return ReusePlan.of(speed, sigmas[:-1].tolist())


def goes_straight(sampler: Any) -> bool:
    return getattr(getattr(sampler, "sampler_function", None), "__name__", "") in STRAIGHT


def keep_for_this_run(
    executor: Any, noise: Tensor, latent: Tensor, sampler: Any, sigmas: Tensor, *args: Any, **named: Any
) -> Any:
    """A wrapper around a whole run; the host makes new model options of the guider for each."""
    options = executor.class_obj.model_options
    inside = options["transformer_options"]
    inside[REUSE] = RunReuse(plan_of(options[SPEED], sampler, sigmas), goes_straight(sampler))
    try:
        return executor(noise, latent, sampler, sigmas, *args, **named)
    finally:
        del inside[REUSE]


def keep_clip(executor: Any, x: Tensor, sigma: Tensor, model_options: dict[str, Any], *args: Any, **named: Any) -> Any:
    """A wrapper around each step's guided prediction."""
    run = model_options.get("transformer_options", {}).get(REUSE)
    if run is None or not run.keeps_clip:
        return executor(x, sigma, model_options, *args, **named)
    if run.clip is not None and run.clip.shape == x.shape and not run.plan.runs_at(sigma[0].item()):
        return run.clip
    made = executor(x, sigma, model_options, *args, **named)
    run.clip = made.clone()  # samplers may write into what they get
    return made
