"""LATENT to IMAGE: what DynamiCrafterDecode does beyond the host's own decoding."""

from typing import Any

import comfy.sd
import torch
from torch import Tensor

from ...dynamicrafter_core.errors import InputError
from .encoders import ReferenceVAE
from .images import check_finite, fit
from .vae import check_vae, decode, decode_with_references
from .visual_guidance import LOOP, PASTE, REFERENCES


def decode_latent(vae: comfy.sd.VAE | None, latent: dict[str, Any], references: Tensor | None = None) -> Tensor:
    vae = check_vae(vae, "DynamiCrafterDecode")
    samples = latent["samples"]
    if samples.ndim != 4:
        raise InputError(
            f"The latent has {samples.ndim} dimensions {list(samples.shape)}; DynamiCrafterDecode takes a video as a batch "
            "of frames, [frames, 4, height, width]."
        )
    check_finite(samples)
    if references is not None and not isinstance(vae, ReferenceVAE):
        raise InputError(
            "references are connected, but this VAE uses none: connect the VAE of a loaded ToonCrafter checkpoint, "
            "or disconnect references."
        )
    pictures = choose_references(latent, references) if isinstance(vae, ReferenceVAE) else None
    if pictures is None:
        images = decode(vae, samples)
    else:
        clips = samples.split(len(samples) // len(pictures))
        decoded = zip(clips, pictures, strict=True)
        images = torch.cat([decode_with_references(vae, clip, pair) for clip, pair in decoded])
    if PASTE in latent:
        frame, pasted = latent[PASTE]
        images[frame :: len(images) // len(pasted)] = pasted.to(images)
    if frames := latent.get(LOOP):
        images = torch.cat([clip[: frames - 1] for clip in images.split(frames)])
    return images


def choose_references(latent: dict[str, Any], references: Tensor | None) -> Tensor | None:
    """First and last picture of every clip [clips,2,H,W,3]: given, or sent along in the latent."""
    samples = latent["samples"]
    if references is None:
        pictures = latent.get(REFERENCES)
    elif len(references) % 2:
        raise InputError(
            f"references holds {len(references)} images: give a first and a last image, or such a pair for each clip."
        )
    else:
        height, width = (8 * side for side in samples.shape[2:])
        pictures = fit(references, width, height, "crop").unflatten(0, (-1, 2))
    if pictures is not None and len(samples) % len(pictures):
        raise InputError(f"{len(samples)} frames do not divide into clips for {len(pictures)} pairs of references.")
    return pictures
