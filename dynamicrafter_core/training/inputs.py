"""From a batch of clips to what the UNet is trained on: latents, text tokens, image tokens, and the concatenated latent.

The paper's ways are here: a random frame as the image, so that the model cannot learn to put it first and copy it; texts and images
dropped at times, so that both can guide; first and last frame given, for interpolation.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..models.autoencoder import LATENT_SCALE
from ..models.encoders import tokenize
from ..models.layout import to_frames, to_volume
from ..models.preprocess import preprocess_for_clip
from ..pipeline.conditions import spread_tokens
from .clips import Clips
from .model import Model
from .recipe import Stage
from .seeds import Word, normal, uniform


@dataclass(frozen=True)
class Latents:
    """Clips as the diffusion model sees them, kept while they are reused with new noise."""

    z: Tensor  # b c t h w, scaled
    clips: Clips


@dataclass(frozen=True)
class Conditioned:
    """What one training step of diffusion is given."""

    z: Tensor  # b c t h w
    concat: Tensor | None  # b c t h w; None: the UNet has no room for it
    text: Tensor  # b l d
    image: Tensor | None  # b t n d
    fs: Tensor  # b
    strength: float | Tensor = 1.0  # b: of the image's tokens


@torch.no_grad()
def encode_clips(model: Model, clips: Clips, rows: list[tuple[Word, ...]], chunk: int = 512) -> Latents:
    """Sampled latents, as conditions are in use: mean + std n, n from each clip's own seed."""
    autoencoder = model.part("autoencoder")
    dtype = next(autoencoder.parameters()).dtype
    frames = clips.pixels.shape[2]
    mean, logvar = autoencoder.encode(to_frames(clips.pixels).to(dtype), chunk=chunk)
    mean, std = to_volume(mean.float(), frames), to_volume(logvar.float(), frames).mul(0.5).exp()
    noise = normal([(*row, "posterior") for row in rows], *mean.shape[1:], device=mean.device)
    return Latents((mean + std * noise) * LATENT_SCALE, clips)


def condition(model: Model, latents: Latents, stage: Stage, rows: list[tuple[Word, ...]]) -> Conditioned:
    """Draw each clip's mode, image frame and dropped conditions from its seed."""
    z, clips = latents.z, latents.clips
    frames, device = z.shape[2], z.device
    chance = uniform([(*row, "condition") for row in rows], 6)
    interpolated = chance[:, 0] < stage.interpolate
    looped = interpolated & (chance[:, 1] < stage.loop)
    pixels = clips.pixels
    if bool(looped.any()):
        there = _there_and_back(frames)
        z = torch.where(_wide(looped, z), z[:, :, there], z)
        pixels = torch.where(_wide(looped, pixels), pixels[:, :, there], pixels)
    shown = torch.where(chance[:, 2] < stage.random_frame, (chance[:, 3] * frames).long(), 0)
    shown = torch.where(interpolated, 0, shown).to(device)
    batch = torch.arange(len(z), device=device)
    picture, its_latent = pixels[batch, :, shown], z[batch, :, shown]  # b 3 h w, b c h w

    r, p = chance[:, 4], stage.dropout
    no_text, no_image = r < 2 * p, (r >= (p if stage.drop_both else 2 * p)) & (r < 3 * p)
    if stage.still:
        z = torch.where(_wide(no_text & ~no_image & ~interpolated, z), its_latent[:, :, None], z)
    captions = ["" if gone else said for gone, said in zip(no_text.tolist(), clips.captions, strict=True)]
    text = encode_text(model, captions)
    picture = torch.where(no_image.to(device)[:, None, None, None], 0.0, picture)
    image = encode_image(model, picture, frames) if "projector" in model.parts else None

    concat = None
    if model.part("unet").config.in_channels > z.shape[1]:
        concat = its_latent[:, :, None].expand_as(z).clone()
        ends = torch.zeros_like(z)
        ends[:, :, 0], ends[:, :, -1] = z[:, :, 0], z[:, :, -1]
        concat = torch.where(_wide(interpolated, z), ends, concat)
        seen = uniform([(*row, "vdg") for row in rows], 1)[:, 0] < stage.vdg
        concat = torch.where(_wide(seen, z), concat, 0.0)
    if stage.frames == 1:  # one frame of each clip, as a text-to-image model sees it, with that frame's tokens
        one = (chance[:, 5] * frames).long().to(device)
        z = z[batch, :, one][:, :, None]
        concat = None if concat is None else concat[batch, :, one][:, :, None]
        image = image[batch, one][:, None] if image is not None and image.shape[1] > 1 else image
    return Conditioned(z, concat, text, image, clips.fs.to(device), clips.strength)


def encode_text(model: Model, captions: list[str]) -> Tensor:
    """Text tokens [B,L,D]; every caption is encoded once, however often it stands there."""
    tower = model.part("text")
    unique = sorted(set(captions))
    device = tower.positional_embedding.device
    tokens = torch.stack([_tokens(caption, tower.config.context_length) for caption in unique]).to(device)
    places = torch.tensor([unique.index(caption) for caption in captions], device=device)
    return tower(tokens)[places]


def encode_image(model: Model, pictures: Tensor, frames: int = 0) -> Tensor:
    """Context tokens [B,T,N,D] of pictures in -1..1, for clips of so many frames (0: of the projector's own length)."""
    tower: Any = model.part("vision")
    seen = preprocess_for_clip(pictures.float(), tower.config.image_size)
    tokens = model.part("projector")(tower(seen.to(next(tower.parameters()).dtype)))
    return spread_tokens(tokens, frames) if frames else tokens


@lru_cache(maxsize=100_000)
def _tokens(caption: str, length: int) -> Tensor:
    return tokenize(caption, length)[0, 0]  # what a training caption says beyond 75 tokens is left out


def _there_and_back(frames: int) -> list[int]:
    """Every second frame forth, and the same ones back."""
    return [min(2 * frame, 2 * (frames - 1 - frame)) for frame in range(frames)]


def _wide(rows: Tensor, like: Tensor) -> Tensor:
    return rows.to(like.device).reshape(-1, *[1] * (like.ndim - 1))
