"""What the sampling nodes' widgets ask for, with the model's own value where they ask for none."""

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...dynamicrafter_core.diffusion.guidance import Guidance
from ...dynamicrafter_core.diffusion.schedule import SPACINGS as CORE_SPACINGS
from .guider import FamilyGuider
from .loading import family_of
from .sampler import ddim_sigmas

SPACINGS = ("auto", *CORE_SPACINGS)


def make_guider(
    model: ModelPatcher, positive: list, negative: list, text_scale: float, image_scale: float, rescale: float
) -> FamilyGuider:
    """`rescale` below 0: the model's own. A model that sees no image has no image guidance."""
    family = family_of(model, "DynamiCrafterGuider")
    guider = FamilyGuider(model)
    guider.set_conds(positive, negative)
    separate = image_scale if family.projector is not None and image_scale != text_scale else None
    guider.set_guidance(Guidance(text_scale, separate, family.guidance_rescale if rescale < 0 else rescale))
    return guider


def make_sigmas(model: ModelPatcher, steps: int, spacing: str, denoise: float) -> Tensor:
    family = family_of(model, "DynamiCrafterSchedule")
    chosen = family.spacing if spacing == "auto" else spacing
    return ddim_sigmas(model, steps, chosen, denoise, family.start_step)


def describe(model: ModelPatcher, guider: FamilyGuider, sigmas: Tensor) -> str:
    passes = len(guider.guidance.branches)
    return f"{max(0, len(sigmas) - 1)} steps, {passes} pass{'es'[: 2 * (passes > 1)]} each, guidance rescale {guider.guidance.rescale:g}"
