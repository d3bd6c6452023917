"""Weights inside the UNet, set on a MODEL: they travel in its transformer_options to where motion_hooks.py reads them."""

from comfy.model_patcher import ModelPatcher

from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.models.motion import Motion, read_curve
from .loading import family_of
from .motion_hooks import MOTION


def set_motion(model: ModelPatcher, motion: Motion) -> ModelPatcher:
    family = family_of(model, "DynamiCrafterMotion")
    if family.projector is None and (motion.ends, motion.middle) != (1, 1):
        raise InputError(f"{family.title} sees no image to weight: set lambda ends and lambda middle to 1.")
    changed = model.clone()
    options = changed.model_options["transformer_options"]
    options[MOTION] = (*options.get(MOTION, ()), motion)
    return changed


def curve(name: str, text: str) -> tuple[float, ...]:
    try:
        return read_curve(text)
    except ValueError:
        raise InputError(
            f"{name} is {text!r}; give a number, or several for a curve over the frames, such as 1, 1.5."
        ) from None
