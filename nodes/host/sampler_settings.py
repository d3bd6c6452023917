"""What the sampling nodes' widgets ask for, with the model's own value where they ask for none."""

from typing import Any

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...dynamicrafter_core.diffusion.curves import Curve
from ...dynamicrafter_core.diffusion.guidance_plan import GuidancePlan
from ...dynamicrafter_core.diffusion.reuse import EXACT, ReusePlan
from ...dynamicrafter_core.diffusion.schedule import SPACINGS as CORE_SPACINGS
from ...dynamicrafter_core.diffusion.schedule import TIMESTEPS
from ...dynamicrafter_core.errors import InputError
from . import files, noise
from .conditioning import FRAMES, GUIDANCE, MOTION_SCALE, read, write
from .consistency import consistency_sigmas
from .ddim import ddim_sigmas
from .dual_guidance import FamilyGuider
from .guidance_plan import asked_of, share_of_run
from .loading import family_of
from .speed import speed_of

SPACINGS = ("auto", *CORE_SPACINGS)


def make_guider(
    model: ModelPatcher,
    positive: list,
    negative: list,
    text_scale: float,
    image_scale: float,
    rescale: float,
    motion_scale: float = -1,
) -> FamilyGuider:
    """Below 0: the model's own, and for the image the text's. A model that sees no image has no image guidance."""
    family = family_of(model, "DynamiCrafterGuider")
    text_scale, asked = family.cfg if text_scale < 0 else text_scale, asked_of(model)
    guider = FamilyGuider(model)
    if motion_scale >= 0 and family.motion_scale is None:
        raise InputError(
            f"motion guidance is {motion_scale:g}, and {family.title} has none: set it to -1, or load T2V-Turbo-v2."
        )
    if family.consistency:
        if rescale > 0:
            raise InputError(
                f"guidance_rescale is {rescale:g}, and {family.title} is distilled: it has one pass a step and nothing to "
                "rescale; set it to 0 or -1."
            )
        scales = {GUIDANCE: text_scale, **({MOTION_SCALE: motion_scale} if motion_scale >= 0 else {})}
        # Nothing runs the negative, except a patch such as self-attention guidance: then with the same scales.
        guider.set_conds(write(positive, scales), write(negative, scales))
        guider.set_guidance(GuidancePlan(Curve.flat(1.0)))
        return guider
    guider.set_conds(positive, negative)
    text = Curve.flat(text_scale) if asked.text is None else asked.text
    image = asked.image
    if image is None and image_scale >= 0 and family.projector is not None and Curve.flat(image_scale) != text:
        image = Curve.flat(image_scale)
    rescale = family.guidance_rescale if rescale < 0 else rescale
    guider.set_guidance(GuidancePlan(text, image, rescale, asked.limits))
    return guider


def make_sigmas(model: ModelPatcher, steps: int, spacing: str, denoise: float, start_step: int) -> Tensor:
    """`steps` and `start_step` 0: the model's own."""
    family = family_of(model, "DynamiCrafterSchedule")
    if family.consistency:
        if spacing != "auto" or start_step not in (0, TIMESTEPS):
            given = f"timestep spacing is {spacing}" if spacing != "auto" else f"start step is {start_step}"
            raise InputError(
                f"{given}, and {family.title} is distilled for timesteps of its own: set timestep spacing to auto and start "
                "step to 0."
            )
        return consistency_sigmas(model, steps or family.steps, denoise)
    chosen = family.spacing if spacing == "auto" else spacing
    return ddim_sigmas(model, steps or family.steps, chosen, denoise, start_step or family.start_step)


def make_noise(
    model: ModelPatcher,
    positive: list,
    latent: dict[str, Any],
    seed: int,
    sigmas: Tensor,
    denoise: float,
    start_step: int,
    initial: str,
    mask: Tensor | None,
    given: Any = None,
) -> Tensor:
    """`initial`: a file of measured noise, or none; `given`: a NOISE in place of the seed's."""
    drawn = noise.draw(latent, seed) if given is None else given.generate_noise(latent)
    family = family_of(model, "DynamiCrafterSampler")
    if family.consistency and initial != files.NONE:
        raise InputError(f"{family.title} is distilled and starts from plain noise: set initial noise to none.")
    if initial != files.NONE:
        whole = f"initial noise is {initial}, which begins a whole video"
        if denoise < 1:
            raise InputError(f"{whole}, and denoise is {denoise:g}: set denoise to 1, or initial noise to none.")
        if mask is not None or "noise_mask" in latent:
            raise InputError(f"{whole}, and a mask keeps part of one: remove the mask, or set initial noise to none.")
    if denoise < 1:
        return drawn
    file = None if initial == files.NONE else files.find_noise(initial)
    return noise.begin(model, drawn, sigmas, start_step or family.start_step, read(positive, FRAMES), file)


def describe(model: ModelPatcher, guider: FamilyGuider, sigmas: Tensor, start_step: int, initial: str) -> str:
    family = family_of(model, "DynamiCrafterSampler")
    if family.consistency:
        given = guider.original_conds["positive"][0]
        motion = f"\nmotion guidance {given.get(MOTION_SCALE, family.motion_scale):g}" if family.motion_scale else ""
        return f"{max(0, len(sigmas) - 1)} steps of one pass, guidance {given[GUIDANCE]:g}{motion}"
    guidance = guider.guidance
    steps = max(0, len(sigmas) - 1)
    passes = count_passes(guider, sigmas)
    counted = f"{passes} pass{'es' * (passes != 1)} in all"
    if guidance.constant:
        each = len(guidance.at(0).branches)
        counted = f"{each} pass{'es' * (each > 1)} each"
    scales = tell(guidance.text) + ("" if guidance.image is None else f" by text and {tell(guidance.image)} by image")
    said = f"{steps} steps, {counted}\nguidance {scales}, rescale {guidance.rescale:g}"
    if (guidance.limits.start, guidance.limits.end) != (0, 1):
        said += f"\nguided from {guidance.limits.start:g} to {guidance.limits.end:g} of the run"
    if projection := guidance.limits.projection:
        said += (
            f"\nparallel part {projection.parallel:g}, norm limit {projection.norm:g}, momentum {projection.momentum:g}"
        )
    speed = speed_of(model)
    if speed != EXACT:
        plan = ReusePlan.of(speed, sigmas[:-1].tolist())
        outer = len(plan.runs) - len(plan.whole)
        said += f"\nthe network runs in {len(plan.runs)} of the steps, in {outer} of them only its outer blocks"
    start = start_step or family.start_step
    if start == TIMESTEPS:
        return said
    if family.analytic_noise and initial == files.NONE:
        return f"{said}\nfrom step {start} on; made for the initial noise {family.noise_published}"
    return f"{said}\nfrom step {start} on"


def count_passes(guider: FamilyGuider, sigmas: Tensor) -> int:
    plan, model = guider.guidance, guider.model_patcher.model
    if plan.constant:
        return len(plan.at(0).branches) * max(0, len(sigmas) - 1)
    return sum(len(plan.at(share_of_run(model, sigma[None])).branches) for sigma in sigmas[:-1])


def tell(curve: Curve) -> str:
    told = curve.told()
    return told if isinstance(told, str) else f"{told:g}"
