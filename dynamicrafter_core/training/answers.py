"""Latents as the UNet makes them, for a decoder that is to know its faults."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.autoencoder import LATENT_SCALE
from .clips import Clips
from .generate import Dials, generate_latents
from .model import Model
from .recipe import Stage
from .seeds import Word, seed_of, uniform


@dataclass(frozen=True)
class Answers:
    given: Tensor  # b, bool: whose latents these are
    latents: Tensor  # n t c h w, of those alone

    def stand_in(self, latents: Tensor, index: Tensor) -> Tensor:
        """For encoded latents b f c h w, of the frames `index` [b, f]."""
        if not len(self.latents):
            return latents
        rows = torch.arange(len(self.latents), device=index.device)[:, None]
        latents = latents.clone()
        latents[self.given] = self.latents[rows, index[self.given]].to(latents)
        return latents


def answer(model: Model, clips: Clips, stage: Stage, rows: Sequence[tuple[Word, ...]]) -> Answers:
    """From the first frame and the caption, with few steps and no guidance."""
    given = (uniform([(*row, "answered") for row in rows], 1)[:, 0] < stage.answers).to(clips.pixels.device)
    chosen = given.nonzero()[:, 0].tolist()
    if not chosen:
        return Answers(given, clips.pixels.new_zeros(0))
    dials = Dials(steps=stage.answer_steps, text_scale=1.0, eta=0.0, seed=seed_of(*rows[0], "answers"))
    captions = [clips.captions[row] for row in chosen]
    pixels, fs = clips.pixels[chosen], clips.fs[chosen]
    made = generate_latents(model, pixels[:, :, 0], captions, fs, pixels.shape[2], dials)
    return Answers(given, made.transpose(1, 2) / LATENT_SCALE)
