"""NOISE whose frames have something in common, and NOISE with the low frequencies of a clip made before."""

from dataclasses import dataclass
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...dynamicrafter_core.diffusion.noise import NoisePrior, check_signal, reinitialise
from ...dynamicrafter_core.diffusion.noise_path import NoisePath
from ...dynamicrafter_core.diffusion.schedule import NoiseSchedule
from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.models.layout import to_frames, to_volume
from .conditioning import count_clips
from .loading import family_of
from .noise import Share, draw

SEEDS = 2**64


@dataclass(frozen=True)
class SharedNoise:
    seed: int
    prior: NoisePrior
    frames: int  # of one clip; 0: all there are

    def generate_noise(self, latent: dict[str, Any]) -> Tensor:
        generator = torch.Generator().manual_seed((self.seed + 2) % SEEDS)  # + 1 is that of the sampler's steps
        return self.share(draw(latent, self.seed), generator)

    def share(self, plain: Tensor, generator: torch.Generator) -> Tensor:
        """For the fresh noise of a sampler's steps too."""
        frames = len(plain) // count_clips(len(plain), self.frames)
        return to_frames(self.prior.apply(to_volume(plain, frames), generator))


@dataclass(frozen=True)
class FreeInitNoise:
    seed: int
    noise: Any  # NOISE
    clip: Tensor  # (b t) c h w, as the network has it
    frames: int
    cutoff: float
    schedule: NoiseSchedule
    start_step: int
    share: Share | None  # of the noise that the first clip was made from

    def generate_noise(self, latent: dict[str, Any]) -> Tensor:
        first, fresh = self.noise.generate_noise(latent), draw(latent, self.seed)
        if first.shape != self.clip.shape:
            raise InputError(
                f"The first clip's latent is {list(self.clip.shape)} and the second sampler's {list(first.shape)}: give both samplers "
                "the same LATENT."
            )
        clip, first, fresh = (to_volume(rows.cpu(), self.frames) for rows in (self.clip, first, fresh))
        return to_frames(reinitialise(clip, first, fresh, self.schedule, self.start_step, self.cutoff))


def shared(seed: int, kind: Any, alpha: float, share: float, path: tuple[Any, ...], frames: int) -> SharedNoise:
    amount = {"plain": None, "residual": share}.get(kind, alpha)
    camera = NoisePath(*path)
    return SharedNoise(seed, NoisePrior(kind, amount, camera if camera.moves else None), frames)


def again(
    model: ModelPatcher, clip: dict[str, Any], noise: Any, seed: int, cutoff: float, start_step: int
) -> FreeInitNoise:
    family = family_of(model, "DynamiCrafterFreeInit")
    if family.consistency:
        raise InputError(f"{family.title} is distilled and starts from plain noise: remove DynamiCrafterFreeInit.")
    start_step = start_step or family.start_step
    check_signal(family.schedule(), start_step)
    samples = clip["samples"]
    frames = getattr(noise, "frames", 0) or len(samples)
    latents = model.model.process_latent_in(samples)
    return FreeInitNoise(
        seed, noise, latents, frames, cutoff, family.schedule(), start_step, getattr(noise, "share", None)
    )
