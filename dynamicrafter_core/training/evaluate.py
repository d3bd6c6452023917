"""How a model under training does on clips it is never trained on: its loss, whether it heeds the prompt, and what it shows.

The gap between the loss under the right prompt and under the opposite one opens long before the clips move as they should.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.layout import to_frames
from .clips import Clips, MovedClips, caption
from .fidelity import detail_of, keep
from .generate import Dials, decode, generate, picture_latents
from .inputs import Latents, condition, encode_clips
from .measures import nearest_frame, psnr
from .model import Model
from .motion_judge import see_motion
from .motions import find_motion
from .objectives import predict
from .picture_clips import CAMERA, MIXTURES, FilmedClips
from .recipe import Stage, Timesteps
from .seeds import normal

EVALUATION = Stage("evaluation", "diffusion", (), 1, 1, random_frame=0.0, dropout=0.0, timesteps=Timesteps())
NOISES = (999, 800, 400)


@dataclass(frozen=True)
class Evaluation:
    figures: dict[str, float]
    strips: Tensor | None = None  # clips 3 t h w, for the report
    captions: Sequence[str] = ()


@torch.no_grad()
def evaluate_autoencoder(model: Model, clips: Clips) -> Evaluation:
    autoencoder = model.part("autoencoder")
    frames = to_frames(clips.pixels)[:: max(1, clips.pixels.shape[2] // 2)]
    dtype = next(autoencoder.parameters()).dtype
    mean, _ = autoencoder.encode(frames.to(dtype))
    made = autoencoder.decode(mean).float().clamp(-1, 1)
    pair = torch.stack([frames, made], 2)[:8]  # n 3 2 h w
    figures = {"psnr": float(psnr(made, frames).mean()), "detail": detail_of(made, frames)}
    return Evaluation(figures, pair, ["given, made"] * len(pair))


@torch.no_grad()
def evaluate_losses(model: Model, clips: Clips, rows: list[Any]) -> dict[str, float]:
    """Held-out v (or eps) losses at three noise levels, and at pure noise under the opposite prompts and for a standing image."""
    schedule = model.family.schedule()
    latents = encode_clips(model, clips, rows)
    given = condition(model, latents, EVALUATION, rows)
    noise = normal([(*row, "noise") for row in rows], *given.z.shape[1:]).to(given.z.device)
    figures = {}
    for t in NOISES:
        at = torch.full((len(given.z),), t, device=given.z.device)
        output = predict(model, given, schedule.q_sample(given.z, at, noise), at)
        figures[f"loss_{t}"] = float(F.mse_loss(output, schedule.target(given.z, at, noise)))
    if isinstance(clips, MovedClips):
        at = torch.full((len(given.z),), NOISES[0], device=given.z.device)
        target = schedule.target(given.z, at, noise)
        turned = Latents(latents.z, replace(clips, captions=opposite_captions(clips)))
        output = predict(model, condition(model, turned, EVALUATION, rows), schedule.q_sample(given.z, at, noise), at)
        figures["loss_999_opposite"] = float(F.mse_loss(output, target))
        standing = latents.z[:, :, :1].expand_as(latents.z)
        figures["loss_999_standing"] = float(F.mse_loss(schedule.target(standing, at, noise), target))
    return figures


def opposite_captions(clips: MovedClips) -> list[str]:
    fronts = clips.scenes.front.tolist()
    names = [find_motion(motion).opposite or motion for motion in clips.motions]
    things = clips.scenes.things
    return [caption(*each, (0.0, 0.0, 0.0)) for each in zip(names, fronts, things, strict=True)]


@torch.no_grad()
def evaluate_motion(model: Model, clips: MovedClips, dials: Dials) -> Evaluation:
    """Clips made from first frames and captions: do they move as told, and keep the image?"""
    pictures = clips.pixels[:, :, 0]
    dials = replace(dials, image_strength=clips.strength)
    made = generate(model, pictures, clips.captions, clips.fs, clips.pixels.shape[2], dials)
    wanted = decode(model, picture_latents(model, pictures)[:, :, None])[
        :, :, 0
    ]  # no model keeps what its autoencoder loses
    anchor = nearest_frame(made, wanted)
    seen = see_motion(made, anchor, clips.front[:, :, 0], clips.subjects)
    right = [one.motion == wanted for one, wanted in zip(seen, clips.motions, strict=True)]
    kept = made[torch.arange(len(made), device=made.device), :, anchor]
    figures = {
        "motion": sum(right) / len(right),
        "image_psnr": float(psnr(kept, wanted).mean()),
        "clip_psnr": float(psnr(made, clips.pixels).mean()),
    }
    words = [f"{caption} ({one.motion})" for caption, one in zip(clips.captions, seen, strict=True)]
    return Evaluation(figures, made[:8], words[:8])


@torch.no_grad()
def evaluate_pictures(model: Model, clips: FilmedClips, dials: Dials) -> Evaluation:
    """Clips made from real pictures: do they move as told, and what is left of the picture at their end?"""
    made = generate(model, clips.pixels[:, :, 0], clips.captions, clips.fs, clips.pixels.shape[2], dials)
    seen = see_motion(made, motions=(*CAMERA, *MIXTURES))
    right = [one.motion == wanted for one, wanted in zip(seen, clips.motions, strict=True)]
    kept = keep(made, clips)
    figures = {
        "motion": sum(right) / len(right),
        "last_psnr": median(one.psnr for one in kept),
        "detail": median(one.detail for one in kept),
        "drift": median(one.drift for one in kept),
    }
    words = [f"{caption} ({one.motion})" for caption, one in zip(clips.captions, seen, strict=True)]
    return Evaluation(figures, made[:8], words[:8])


def evaluate(model: Model, clips: Clips, stage: Stage, rows: list[Any], dials: Dials) -> Evaluation:
    if stage.objective == "autoencoder":
        return evaluate_autoencoder(model, clips)
    if stage.objective == "towers" or stage.frames == 1:
        return Evaluation({})
    if stage.objective == "distillation":  # losses of a model that skips noise levels say nothing
        dials, figures = Dials(steps=stage.distillation.steps, text_scale=1.0, rescale=0.0, eta=0.0), {}
    else:
        figures = evaluate_losses(model, clips, rows)
    if isinstance(clips, FilmedClips) and stage.vdg:
        filmed = evaluate_pictures(model, clips, dials)
        return Evaluation({**figures, **filmed.figures}, filmed.strips, filmed.captions)
    if isinstance(clips, MovedClips) and stage.vdg:
        made = evaluate_motion(model, clips, dials)
        return Evaluation({**figures, **made.figures}, made.strips, made.captions)
    return Evaluation(figures)
