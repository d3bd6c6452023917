"""Visual detail guidance: latents of images at their frames, in CONDITIONING, and the empty latent."""

import math
from dataclasses import dataclass
from typing import Any, get_args

import comfy.model_management
import comfy.sd
import torch
from torch import Tensor

from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.families import Family
from ...dynamicrafter_core.media.images import Fit, round_size
from .conditioning import CONCAT, FAMILY, FRAMES, FS, read, write
from .encoders import ReferenceVAE
from .images import fit
from .vae import check_vae, encode

MODES = ("animate", "interpolate", "loop")
FITS: tuple[str, ...] = get_args(Fit)
NODE = "DynamiCrafterVisualGuidance"

# What travels in LATENT to DynamiCrafterDecode; other nodes hand it on unread.
REFERENCES = "dynamicrafter_references"  # [clips, 2, H, W, 3]: ToonCrafter's first and last picture
LOOP = "dynamicrafter_loop"  # frames of a clip whose last frame repeats its first
PASTE = "dynamicrafter_paste"  # a frame of each clip, and the pictures [clips,H,W,3] that stand there
LOCKS = ("off", "latent", "picture")


@dataclass(frozen=True)
class Plan:
    mode: str
    width: int
    height: int
    frames: int
    fs: int
    fit: Fit
    lock: str = "off"
    lock_frame: int = 0


@dataclass(frozen=True)
class Guided:
    positive: list
    negative: list
    latent: dict[str, Any]
    notes: list[str]


def add_detail(
    plan: Plan,
    positive: list,
    negative: list,
    vae: comfy.sd.VAE | None,
    image: Tensor,
    end_image: Tensor | None = None,
    keyframes: Tensor | None = None,
    positions: tuple[int, ...] = (),
    guide: Tensor | None = None,
    strengths: tuple[float, ...] = (),
) -> Guided:
    vae = check_vae(vae, NODE)
    family = read(positive, FAMILY)
    if family is not None and not family.concat:
        raise InputError(
            f"{family.title} has no channels for visual detail guidance: connect the conditioning to the sampler directly, "
            "with EmptyLatentImage and the frames as its batch_size."
        )
    check_ends(plan, image, end_image)
    check_keyframes(keyframes, positions)
    check_guide(plan, image, guide)
    check_lock(plan)
    width, height = choose_size(plan, image, family)
    clips = image.shape[0]

    first = fit(image, width, height, plan.fit)
    latents = encode(vae, first)  # clips 4 h w
    concat = latents.new_zeros(clips, plan.frames, *latents.shape[1:])
    ends = [first]
    if guide is not None:
        concat[0] = encode(vae, torch.cat([first, fit(guide, width, height, plan.fit)[1:]]))
    elif plan.mode == "animate":
        concat[:] = latents[:, None]
    else:
        last = first if end_image is None else fit(end_image, width, height, plan.fit)
        concat[:, 0] = latents
        concat[:, -1] = latents if end_image is None else encode(vae, last)
        ends.append(last.expand(clips, -1, -1, -1))
    if keyframes is not None:
        concat[:, list(positions)] = encode(vae, fit(keyframes, width, height, plan.fit))

    values = {FRAMES: plan.frames, FS: plan.fs}
    device = comfy.model_management.intermediate_device()
    latent: dict[str, Any] = {"samples": torch.zeros(clips * plan.frames, *latents.shape[1:], device=device)}
    if plan.mode == "loop":
        latent[LOOP] = plan.frames
    if isinstance(vae, ReferenceVAE) and len(ends) == 2:
        latent[REFERENCES] = torch.stack(ends, dim=1)
    if plan.lock != "off":
        hold(latent, latents, first, plan)
    notes = describe(plan, clips, width, height, family, guide is not None)
    spans = concat_over_run(concat, positions, strengths)
    told = [[entry for span in spans for entry in write(given, {**values, **span})] for given in (positive, negative)]
    return Guided(*told, latent, notes)


def concat_over_run(concat: Tensor, positions: tuple[int, ...], strengths: tuple[float, ...]) -> list[dict[str, Any]]:
    """What is shown in each span of the run: keyframes leave it when the share that is their strength is over."""
    ends = sorted({strength for strength in strengths if 0 < strength < 1} | {1.0})
    spans, begin = [], 0.0
    for end in ends:
        gone = (
            [place for place, strength in zip(positions, strengths, strict=True) if strength <= begin]
            if strengths
            else []
        )
        shown = concat
        if gone:
            shown = concat.clone()
            shown[:, gone] = 0
        spans.append({CONCAT: shown, "start_percent": begin, "end_percent": end})
        begin = end
    return spans if len(spans) > 1 else [{CONCAT: spans[0][CONCAT]}]


def hold(latent: dict[str, Any], latents: Tensor, pictures: Tensor, plan: Plan) -> None:
    """The picture's own latent stands at its frame of every clip at all noise levels, and there the mask is 0."""
    samples = latent["samples"]
    samples[plan.lock_frame :: plan.frames] = latents.to(samples)
    latent["noise_mask"] = samples.new_ones(len(samples), 1, *samples.shape[2:])
    latent["noise_mask"][plan.lock_frame :: plan.frames] = 0
    if plan.lock == "picture":
        latent[PASTE] = (plan.lock_frame, pictures)


def check_lock(plan: Plan) -> None:
    if plan.lock == "off":
        return
    if plan.mode != "animate":
        raise InputError(f"lock is {plan.lock}, and mode {plan.mode} has two ends: choose animate, or set lock to off.")
    if plan.lock_frame >= plan.frames:
        raise InputError(
            f"lock_frame is {plan.lock_frame}, and the clip has {plan.frames} frames: give 0 to {plan.frames - 1}."
        )


def read_strengths(text: str, keyframes: int) -> tuple[float, ...]:
    """ "1, 0.5" -> a strength for each keyframe; one stands for all, and no text for 1."""
    try:
        listed = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        listed = [math.nan]
    if not all(0 <= strength <= 1 for strength in listed) or len(listed) not in {0, 1, keyframes}:
        raise InputError(
            f"keyframe_strengths is {text!r}; give a number from 0 to 1, or one for each of the {keyframes} keyframes."
        )
    return tuple(listed * keyframes) if len(listed) == 1 else tuple(listed)


def check_ends(plan: Plan, image: Tensor, end_image: Tensor | None) -> None:
    if plan.mode == "interpolate" and end_image is None:
        hint = f" (image holds {image.shape[0]} images, each of which starts a clip)" if image.shape[0] > 1 else ""
        raise InputError(f"Mode interpolate leads from image to end_image, and end_image is not connected{hint}.")
    if plan.mode != "interpolate" and end_image is not None:
        raise InputError(f"Mode {plan.mode} has no end image: choose interpolate, or disconnect end_image.")
    if plan.mode != "animate" and plan.frames < 2:
        raise InputError(
            f"Mode {plan.mode} needs a first and a last frame, and frames is {plan.frames}: give 2 or more."
        )
    if end_image is not None and end_image.shape[0] not in (1, image.shape[0]):
        raise InputError(
            f"There are {image.shape[0]} first images and {end_image.shape[0]} end images: give one end image for all "
            "clips, or one for each."
        )


def check_keyframes(keyframes: Tensor | None, positions: tuple[int, ...]) -> None:
    count = 0 if keyframes is None else keyframes.shape[0]
    if count != len(positions):
        raise InputError(
            f"There are {count} keyframes and {len(positions)} keyframe_positions {list(positions)}: give a position for "
            "each keyframe, such as 5, 10."
        )


def check_guide(plan: Plan, image: Tensor, guide: Tensor | None) -> None:
    if guide is None:
        return
    if plan.mode != "animate" or image.shape[0] != 1:
        found = f"mode is {plan.mode}" if plan.mode != "animate" else f"image holds {image.shape[0]} images"
        raise InputError(
            f"A guide video leads one image in mode animate, and {found}: change that, or disconnect guide_video."
        )
    if guide.shape[0] != plan.frames:
        raise InputError(
            f"guide_video holds {guide.shape[0]} frames for a clip of {plan.frames}: give both the same number (25 for ViewCrafter)."
        )


def read_positions(text: str, frames: int) -> tuple[int, ...]:
    """ "0, 5, -1" -> frames of the clip, each once."""
    try:
        listed = [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise InputError(
            f"keyframe_positions is {text!r}; give whole numbers from 0 to {frames - 1}, such as 5, 10."
        ) from None
    if wrong := [place for place in listed if not -frames <= place < frames]:
        raise InputError(
            f"keyframe_positions holds {wrong[0]}, which a clip of {frames} frames does not have: give 0 to "
            f"{frames - 1}."
        )
    places = [place % frames for place in listed]
    if len(set(places)) < len(places):
        raise InputError(f"keyframe_positions is {text!r} and names a frame twice: give each keyframe its own frame.")
    return tuple(places)


def choose_size(plan: Plan, image: Tensor, family: Family | None) -> tuple[int, int]:
    """The video's size: asked for, or the model's own, turned as the image is; a multiple of 64 either way."""
    height, width = image.shape[1:3]
    if plan.width and plan.height:
        return round_size(plan.width, plan.height)
    if plan.width or plan.height:  # one side asked for: the other as the image has it
        return round_size(plan.width or plan.height * width / height, plan.height or plan.width * height / width)
    if family is None:
        raise InputError(
            "width and height are 0, for the model's own size, but the conditioning does not show which model it is: pass it "
            "through DynamiCrafterImageContext first, or give a width and a height."
        )
    long, short = max(family.width, family.height), min(family.width, family.height)
    return (long, short) if width >= height else (short, long)


def describe(plan: Plan, clips: int, width: int, height: int, family: Family | None, guided: bool) -> list[str]:
    several = f"{clips} clips of " if clips > 1 else ""
    notes = [f"{several}{plan.frames} frames, {width}x{height}"]
    if family is None:
        return notes
    if family.fs_range:
        low, high = family.fs_range
        fs = plan.fs or family.fs_default
        usual = "" if low <= fs <= high else f" (usual: {low} to {high})"
        more = "larger" if family.fs_larger_moves_more else "smaller"
        notes.append(f"fs {fs}: {family.fs_meaning}{usual}; {more} moves more")
    if family.frames not in (16, plan.frames):
        notes.append(f"{family.title} was trained at {family.frames} frames")
    if guided and "fly" not in family.modes:
        notes.append(f"{family.title} was not trained to follow a guide: what is black in it may stay black")
    if not guided and plan.mode not in family.modes:
        notes.append(
            f"{family.title} was trained to {' and '.join(family.modes)}, not to {plan.mode}: the result may be poor"
        )
    return notes
