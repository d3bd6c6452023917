"""Strokes and a brush in the host: frames that lead as LATENT and as detail in CONDITIONING, and a mask over the run on the MODEL.

The mask is the host's own (denoise_mask_function), so any sampler of the host is led.
"""

from dataclasses import dataclass
from typing import Any

import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...dynamicrafter_core.diffusion.noise import NoisePrior
from ...dynamicrafter_core.diffusion.noise_path import NoisePath
from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.media.images import Fit, fit_image
from ...dynamicrafter_core.models.layout import to_frames, to_volume
from ...dynamicrafter_core.strokes.asked import asks_something
from ...dynamicrafter_core.strokes.drawing import Strokes
from ...dynamicrafter_core.strokes.flow import Frame
from ...dynamicrafter_core.strokes.lead import CarriedNoise, Lead, make_lead
from .conditioning import CONCAT, FRAMES, count_clips, read
from .guidance_plan import share_of_run
from .images import to_signed
from .loading import family_of
from .noise import draw
from .shared_noise import SEEDS, SharedNoise
from .vae import check_vae, encode

NODE = "DynamiCrafterStrokes"
MASK = "denoise_mask_function"  # the host's key


@dataclass(frozen=True)
class Led:
    model: ModelPatcher
    positive: list
    negative: list
    latent: dict[str, Any]
    noise: Any
    note: str


@dataclass(frozen=True)
class StrokesNoise:
    """NOISE that moves along with what moves."""

    seed: int
    carried: CarriedNoise

    def generate_noise(self, latent: dict[str, Any]) -> Tensor:
        generator = torch.Generator().manual_seed((self.seed + 2) % SEEDS)  # + 1 is that of the sampler's steps
        return self.share(draw(latent, self.seed), generator)

    def share(self, plain: Tensor, generator: torch.Generator) -> Tensor:
        """For the fresh noise of a sampler's steps too."""
        return to_frames(self.carried.apply(to_volume(plain, len(plain)), generator))


def read_strokes(text: str, radius: float, until: float, noise: float, easing: Any, camera: str = "") -> Strokes:
    read = Strokes.read(text)
    if read != Strokes(read.lines):
        raise InputError(
            "strokes holds more than strokes; set radius, until, noise share, easing and camera in their own inputs."
        )
    return Strokes(read.lines, radius, until, noise, easing, NoisePath.read(camera))


def lead_along(
    strokes: Strokes,
    model: ModelPatcher,
    positive: list,
    negative: list,
    latent: dict[str, Any],
    vae: comfy.sd.VAE | None,
    image: Tensor,
    seed: int,
    fit: Fit,
    brush: Tensor | None,
    brush_to: Tensor | None,
    flow: Any,
) -> Led:
    family, samples = family_of(model, NODE), latent["samples"]
    lead_somewhere = strokes.lines or strokes.camera.moves or flow is not None or brush_to is not None
    moving = strokes if lead_somewhere else Strokes()
    if not asks_something(moving, brush, brush_to, flow):
        plain = SharedNoise(seed, NoisePrior(), read(positive, FRAMES) or 0)
        return Led(model, positive, negative, latent, plain, "nothing is drawn")
    if family.consistency:
        raise InputError(f"{family.title} is distilled and starts from noise alone: remove {NODE}.")
    check_one_clip(positive, latent, image)
    if MASK in model.model_options:
        raise InputError(
            f"A node on the MODEL (Differential Diffusion or the like) masks the run, and so does {NODE}: remove one of them."
        )

    factor = family.autoencoder.size_factor
    height, width = (side * factor for side in samples.shape[2:])
    frame = Frame((image.shape[2], image.shape[1]), width, height, fit)
    picture = fit_image(to_signed(image)[0].cpu(), width, height, fit)
    masks = [
        None if each is None else fit_mask(name, each, frame)
        for name, each in (("brush", brush), ("brush to", brush_to))
    ]
    lead = make_lead(picture, frame, len(samples), factor, strokes, masks[0], masks[1], flow)

    frames = lead.frames if lead.weight is not None else lead.frames[:1]
    latents = encode(check_vae(vae, NODE), ((frames + 1) / 2).clamp(0, 1).movedim(1, -1)).to(samples)
    latents = lead.settle(latents.transpose(0, 1)).transpose(0, 1)
    free = samples.new_ones(len(samples), 1, *samples.shape[2:])
    mask = free if lead.keep is None else free * (1 - lead.keep.to(samples))
    held = {**latent, "samples": latents.expand_as(samples).clone(), "noise_mask": mask}
    noise = SharedNoise(seed, NoisePrior(), 0) if lead.noise is None else StrokesNoise(seed, lead.noise)
    if lead.weight is None:
        return Led(model, positive, negative, held, noise, tell(lead))
    shown = show_detail(positive, latents), show_detail(negative, latents)
    return Led(led_model(model, lead), *shown, held, noise, tell(lead))


def check_one_clip(positive: list, latent: dict[str, Any], image: Tensor) -> None:
    clips = count_clips(len(latent["samples"]), read(positive, FRAMES))
    if clips != 1 or image.shape[0] != 1:
        found = f"the latent holds {clips} clips" if clips != 1 else f"image holds {image.shape[0]} images"
        raise InputError(f"Strokes lead one clip of one image, and {found}: make the clips one by one.")
    if "noise_mask" in latent:
        raise InputError(
            f"The latent has a mask already (from lock, or Set Latent Noise Mask), and {NODE} sets one: remove the other."
        )
    concat = read(positive, CONCAT)
    if concat is not None and not torch.equal(concat, concat[:, :1].expand_as(concat)):
        raise InputError(
            "Strokes lead a clip that animates one image: set DynamiCrafter Visual Guidance to animate, without keyframes or a guide video."
        )


def fit_mask(name: str, mask: Tensor, frame: Frame) -> Tensor:
    if mask.ndim == 2:
        mask = mask[None]
    if len(mask) != 1:
        raise InputError(f"{name} holds {len(mask)} masks: give one.")
    return fit_image(mask.cpu().float(), frame.width, frame.height, frame.fit)[0].clamp(0, 1)


def show_detail(conditioning: list, latents: Tensor) -> list:
    """Frames that lead are shown as detail too, behind the image itself."""
    shown = []
    for text, options in conditioning:
        concat = options.get(CONCAT)
        if concat is not None:
            options = {**options, CONCAT: torch.cat([concat[:, :1], latents[None, 1:].to(concat)], 1)}
        shown.append([text, options])
    return shown


def led_model(model: ModelPatcher, lead: Lead) -> ModelPatcher:
    assert lead.weight is not None
    free = 1 - lead.weight[:, None]  # t 1 h w

    def mask(sigma: Tensor, denoise_mask: Tensor, extra_options: dict[str, Any]) -> Tensor:
        if share_of_run(extra_options["model"].inner_model, sigma) >= lead.until:
            return denoise_mask
        return torch.minimum(denoise_mask, free.to(denoise_mask))

    changed = model.clone()
    changed.set_model_denoise_mask_function(mask)
    return changed


def tell(lead: Lead) -> str:
    told = []
    if lead.weight is not None:
        told.append(f"led up to {lead.until:g} of the run")
    if lead.keep is not None:
        told.append(f"{100 * lead.keep.mean():.0f} % of the picture stands still")
    return "\n".join(told)
