"""Text-aligned context: the image as tokens beside the text, in CONDITIONING."""

from typing import Any

from comfy.clip_vision import ClipVisionModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...dynamicrafter_core.errors import InputError
from .conditioning import FAMILY, IMAGE, STRENGTH, write
from .image_tokens import encode_images, project
from .images import to_signed
from .loading import family_of, projector_of

Conditioning = list[Any]


def add_image(
    model: ModelPatcher,
    vision: ClipVisionModel | None,
    image: Tensor,
    positive: Conditioning,
    negative: Conditioning,
    strength: float = 1.0,
) -> tuple[Conditioning, Conditioning]:
    """Positive with the image's tokens, negative with those of no image, both weighed alike."""
    family = family_of(model, "DynamiCrafterImageContext")
    if family.projector is None:
        raise InputError(
            f"{family.title} makes videos of text alone and sees no image: connect the prompts to the sampler directly, or "
            "load an image-to-video variant."
        )
    projector = projector_of(model)
    if projector is None:
        raise InputError(
            f"This file of {family.title} was loaded without an image projector: choose the file that holds it "
            "(image_proj_model) in DynamiCrafterLoadParts."
        )
    if vision is None:
        raise InputError(
            "DynamiCrafterImageContext has no CLIP_VISION: the loaded file holds none; use CLIPVisionLoader with "
            "CLIP-ViT-H-14-laion2B."
        )
    tokens = project(projector, encode_images(vision, to_signed(image)))
    seen, unseen = tokens[:-1], tokens[-1:]
    return (
        write(positive, {IMAGE: seen, STRENGTH: strength, FAMILY: family}),
        write(negative, {IMAGE: unseen, STRENGTH: strength, FAMILY: family}),
    )
