"""Text-aligned context: the image as tokens beside the text, in CONDITIONING."""

from typing import Any

from comfy.clip_vision import ClipVisionModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.pipeline.references import check_weights, mix_tokens
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
    negative_image: Tensor | None = None,
    references: Tensor | None = None,
    reference_weights: str = "1",
) -> tuple[Conditioning, Conditioning]:
    """Positive with the image's tokens, negative with those of no image or of the negative one, both weighed alike."""
    weights = read_weights(reference_weights, 0 if references is None else len(references))
    check_negative(negative_image, image)
    family = family_of(model, "DynamiCrafterImageContext")
    if family.projector is None:
        raise InputError(
            f"{family.title} makes videos from text alone and sees no image: connect the prompts to the sampler "
            "directly, or load an image-to-video variant."
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

    def tokens_of(pictures: Tensor) -> Tensor:
        return project(projector, encode_images(vision, to_signed(pictures)))

    tokens = tokens_of(image)
    seen, unseen = tokens[:-1], tokens[-1:]
    if references is not None:
        seen = mix_tokens(seen, tokens_of(references)[:-1], weights)
    if negative_image is not None:
        unseen = tokens_of(negative_image)[:-1]
    return (
        write(positive, {IMAGE: seen, STRENGTH: strength, FAMILY: family}),
        write(negative, {IMAGE: unseen, STRENGTH: strength, FAMILY: family}),
    )


def read_weights(text: str, count: int) -> tuple[float, ...]:
    """ "1, 0.5" -> a weight for each reference; one alone is that of all."""
    try:
        weights = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise InputError(
            f"reference weights is {text!r}; give a number for all references, or one for each, such as 1, 0.5."
        ) from None
    return check_weights(weights, count)


def check_negative(negative: Tensor | None, image: Tensor) -> None:
    if negative is not None and len(negative) not in (1, len(image)):
        raise InputError(
            f"There are {len(image)} images and {len(negative)} negative images: give one negative image for all clips, or one for each."
        )
