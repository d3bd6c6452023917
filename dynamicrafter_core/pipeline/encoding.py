"""Prompts and pictures through the parts of a model that read them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..models.autoencoder import LATENT_SCALE
from ..models.preprocess import preprocess_for_clip
from .conditions import sample_posterior
from .decoding import frames_at_once
from .references import mix_tokens
from .residency import Residency


def encode_texts(parts: Residency, prompts: Sequence[str]) -> Tensor:
    """Prompts -> text tokens [n,L,D]."""
    return parts.use("text", lambda tower: tower.encode(prompts))


def encode_image(
    parts: Residency,
    image: Tensor,
    negative: Tensor | None = None,
    references: Sequence[Tensor] = (),
    weights: Sequence[float] = (),
) -> Tensor:
    """An image [3,H,W] of any size -> tokens [2,T or 1,N,D]: its own, mixed with those of references, and those of the negative image.

    Without a negative image they are those of mid-grey, which means no image. CLIP sees the whole image, squeezed to its square,
    whatever the frame shows of it.
    """
    config: Any = parts.checkpoint.configs["vision"]
    unseen = torch.zeros(3, config.image_size, config.image_size) if negative is None else negative
    pictures = (image, *references, unseen)
    square = torch.cat([preprocess_for_clip(picture[None], config.image_size) for picture in pictures])
    pixels = square.to(parts.device, parts.dtype)
    tokens = parts.use("vision", lambda tower: tower(pixels))
    tokens = parts.use("projector", lambda projector: projector(tokens))
    return torch.cat([mix_tokens(tokens[:1], tokens[1:-1], weights), tokens[-1:]])


def encode_given(parts: Residency, pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, list[Tensor] | None]:
    """The given images [n,3,H,W] -> latents [n,c,h,w], and what ToonCrafter's decoder wants to see of the images."""

    def encode(coder: Any) -> tuple[Tensor, list[Tensor] | None]:
        given = pixels.to(parts.device, parts.dtype)
        if coder.config.dual_reference:
            mean, logvar, hidden = coder.encode(given, return_hidden=True, chunk=1)
            return sample_posterior(mean, logvar, generator), coder.references(hidden)
        mean, logvar = coder.encode(given, chunk=1)
        return sample_posterior(mean, logvar, generator), None

    return parts.use("autoencoder", encode)


def encode_original(parts: Residency, pixels: Tensor) -> Tensor:
    """Frames [T,3,H,W] to keep, or to start from -> latents [1,c,T,h,w]: the mode, which decodes most exactly."""

    def encode(coder: Any) -> Tensor:
        given = pixels.to(parts.device, parts.dtype)
        mean, _ = coder.encode(given, chunk=frames_at_once(given))
        return LATENT_SCALE * mean.float().transpose(0, 1)[None]

    return parts.use("autoencoder", encode)
