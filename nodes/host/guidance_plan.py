"""Guidance over a run, set on a MODEL: it travels in the MODEL's options to the guider that this pack's sampling nodes make."""

from dataclasses import dataclass
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...dynamicrafter_core.diffusion.curves import Curve
from ...dynamicrafter_core.diffusion.guidance_plan import NO_LIMITS, GuidancePlan, Limits
from ...dynamicrafter_core.diffusion.schedule import share_done
from ...dynamicrafter_core.errors import InputError
from .loading import family_of
from .schedule import family_sampling

PLAN = "dynamicrafter_guidance"
NODE = "DynamiCrafterGuidance"
MOST = 100.0  # of a scale, as in the library


@dataclass(frozen=True)
class Asked:
    """None: the scale in the sampler."""

    text: Curve | None = None
    image: Curve | None = None
    limits: Limits = NO_LIMITS


def set_guidance(model: ModelPatcher, text: str, image: str, limits: Limits) -> ModelPatcher:
    """Empty texts leave the scales to the sampler."""
    family = family_of(model, NODE)
    if family.consistency:
        raise InputError(
            f"{family.title} is distilled: guidance is an input of its network, the same in all of its few steps; remove "
            f"{NODE}, and set text guidance in the sampler."
        )
    if image.strip() and family.projector is None:
        raise InputError(f"{family.title} sees no image: leave image guidance empty.")
    asked = Asked(_curve("text guidance", text), _curve("image guidance", image), limits)
    changed = model.clone()
    changed.model_options[PLAN] = asked
    changed.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, PLAN)
    changed.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, PLAN, refuse_other_guiders)
    return changed


def refuse_other_guiders(executor: Any, *args: Any, **named: Any) -> Any:
    """A wrapper around a whole run: a guider that does not know the plan would ignore it without a word."""
    guider = executor.class_obj
    if not isinstance(getattr(guider, "guidance", None), GuidancePlan):
        raise InputError(
            f"{NODE} is set on the MODEL, and this sampler guides by itself ({type(guider).__name__}): use DynamiCrafterSampler, or "
            f"DynamiCrafterGuider with SamplerCustomAdvanced, or remove {NODE}."
        )
    return executor(*args, **named)


def _curve(name: str, text: str) -> Curve | None:
    return Curve.read(name, text, 0, MOST) if text.strip() else None


def asked_of(model: ModelPatcher) -> Asked:
    return model.model_options.get(PLAN, Asked())


def share_of_run(model: Any, sigma: Tensor) -> float:
    """How much of a run from pure noise lies behind it at sigma [rows], which are all the same."""
    return share_done(family_sampling(model, NODE).timestep(sigma[:1]))
