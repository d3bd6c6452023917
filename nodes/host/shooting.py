"""One take of a film, conditioned, sampled and decoded as the pack's other nodes do it."""

from dataclasses import dataclass, replace
from typing import Any

import comfy.sd
import torch
from comfy.clip_vision import ClipVisionModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...dynamicrafter_core.film.film import Before
from ...dynamicrafter_core.film.takes import Take
from ...dynamicrafter_core.media.colour import Match, continue_colour
from ...dynamicrafter_core.pipeline.keyframes import Keyframe, between
from ...dynamicrafter_core.pipeline.settings import Settings
from . import image_context, sampler_settings, visual_guidance
from .conditioning import CONCAT, FAMILY, FRAMES, FS, write
from .decode import decode_latent
from .files import NONE
from .images import fit
from .loading import family_of
from .sampling_run import published_sampler, sample
from .vae import encode

NODE = "DynamiCrafterFilm"


@dataclass(frozen=True)
class Parts:
    model: ModelPatcher
    clip: comfy.sd.CLIP
    vision: ClipVisionModel | None
    vae: comfy.sd.VAE
    morph: ModelPatcher | None


def shoot_take(
    parts: Parts, take: Take, settings: Settings, picture: Tensor | None, before: Before, keep: int, match: Match
) -> tuple[Tensor, Tensor | None]:
    """uint8 frames [T,H,W,3] that the film shows, and their latents [4,T,h,w]. `picture` [1,H,W,3]: the take's."""
    if before is not None:
        frames = before[0].float() / 255
        if picture is not None and take.kind == "morph":
            return morph(parts, settings, frames[-1:], picture, take.frames), None
        # Where colours are held, the frames as they are shown are what goes on.
        latents = None if match == "first" else before[1]
        return go_on(parts, take, settings, picture, frames[-keep:], latents, match)
    if picture is not None and take.kind == "still":
        return in_bytes(fit(picture, settings.width, settings.height, settings.fit)), None
    made = condition(parts, parts.model, settings, picture, picture, None)
    sampled = run(parts.model, settings, *made)
    return in_bytes(decode_latent(parts.vae, sampled))[: take.frames], in_volume(sampled["samples"][: take.frames])


def go_on(
    parts: Parts,
    take: Take,
    settings: Settings,
    picture: Tensor | None,
    kept: Tensor,
    latents: Tensor | None,
    match: Match,
) -> tuple[Tensor, Tensor]:
    """What comes after the frames `kept`, whose `latents` may be known."""
    given = len(kept)
    context = kept[:1] if picture is None else picture
    positive, negative, latent = condition(parts, parts.model, settings, context, kept[:1], None)
    known = None if latents is None else latents[:, -given:].movedim(0, 1)
    begin_with(parts, settings, positive, negative, latent, kept, known)
    sampled = run(parts.model, settings, positive, negative, latent)
    images = in_bytes(decode_latent(parts.vae, sampled))
    last, first = (
        in_bytes(fit(each, settings.width, settings.height, settings.fit))[0] for each in (kept[-1:], context)
    )
    shown = continue_colour(images[given:], match, last, first)[: take.frames]
    return shown, in_volume(sampled["samples"][given : given + take.frames])


def in_volume(rows: Tensor) -> Tensor:
    return rows.movedim(0, 1).float().cpu()


def in_bytes(images: Tensor) -> Tensor:
    return (images * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def morph(parts: Parts, settings: Settings, first: Tensor, last: Tensor, frames: int) -> Tensor:
    """So many frames between two pictures [1,H,W,3], neither of them included."""
    model, made = parts.morph or parts.model, 0

    def make(here: Keyframe, there: Keyframe) -> Tensor:
        nonlocal made
        ends = [each.image if each.image.ndim == 4 else each.image[None].float() / 255 for each in (here, there)]
        positive, negative, latent = condition(parts, model, settings, ends[0], *ends)
        varied = replace(settings, seed=settings.seed + made)
        made += 1
        return in_bytes(decode_latent(parts.vae, run(model, varied, positive, negative, latent)))

    return between(make, Keyframe(first, 0), Keyframe(last, frames + 1), settings.frames)[1:-1]


def condition(
    parts: Parts,
    model: ModelPatcher,
    settings: Settings,
    context: Tensor | None,
    first: Tensor | None,
    last: Tensor | None,
) -> tuple[list, list, dict[str, Any]]:
    family = family_of(model, NODE)
    positive, negative = (
        parts.clip.encode_from_tokens_scheduled(parts.clip.tokenize(text))
        for text in (settings.prompt, settings.negative)
    )
    if family.projector is not None and context is not None:
        positive, negative = image_context.add_image(
            model, parts.vision, context, positive, negative, settings.context_strength
        )
    if family.concat and first is not None:
        asked = visual_guidance.Plan(
            settings.mode, settings.width, settings.height, settings.frames, settings.fs or 0, settings.fit
        )
        guided = visual_guidance.add_detail(asked, positive, negative, parts.vae, first, last)
        return guided.positive, guided.negative, guided.latent
    values = {FRAMES: settings.frames, FS: settings.fs or 0, FAMILY: family}
    factor = family.autoencoder.size_factor
    samples = torch.zeros(settings.frames, 4, settings.height // factor, settings.width // factor)
    return write(positive, values), write(negative, values), {"samples": samples}


def begin_with(
    parts: Parts,
    settings: Settings,
    positive: list,
    negative: list,
    latent: dict[str, Any],
    kept: Tensor,
    known: Tensor | None,
) -> None:
    """The take's first frames are the kept ones, at every noise level, and its detail is the first of them."""
    samples = latent["samples"]
    if known is None or known.shape[2:] != samples.shape[2:]:
        known = encode(parts.vae, fit(kept, settings.width, settings.height, settings.fit))
    samples[: len(known)] = known.to(samples)
    latent["noise_mask"] = samples.new_ones(len(samples), 1, *samples.shape[2:])
    latent["noise_mask"][: len(known)] = 0
    for conditioning in (positive, negative):
        for _, options in conditioning:
            if CONCAT in options:
                options[CONCAT] = known[None, :1].expand(1, settings.frames, -1, -1, -1).to(options[CONCAT])


def run(
    model: ModelPatcher, settings: Settings, positive: list, negative: list, latent: dict[str, Any]
) -> dict[str, Any]:
    text_scale, image_scale = (
        -1.0 if scale is None else scale.told() for scale in (settings.text_scale, settings.image_scale)
    )
    family = family_of(model, NODE)
    motion_scale = -1 if settings.motion_scale is None or family.motion_scale is None else settings.motion_scale
    rescale = -1 if family.consistency else settings.guidance_rescale
    guider = sampler_settings.make_guider(
        model,
        positive,
        negative,
        text_scale,
        image_scale,
        rescale,
        motion_scale,  # type: ignore[arg-type]
    )
    spacing = "auto" if family.consistency else settings.spacing
    start = 0 if family.consistency else settings.start_step
    sigmas = sampler_settings.make_sigmas(model, settings.steps, spacing, 1.0, start)
    drawn = sampler_settings.make_noise(model, positive, latent, settings.seed, sigmas, 1.0, start, NONE, None)
    return sample(guider, published_sampler(settings.eta), sigmas, latent, drawn, settings.seed)
