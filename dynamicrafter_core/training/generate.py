"""Clips from a model under training: many at once, with every dial that the measures turn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..diffusion.guidance import Guidance, OverRun, guided
from ..diffusion.noise import NoisePrior, reinitialise
from ..diffusion.reuse import EXACT, KeptInner, ReusePlan, Speed, keep_clip
from ..diffusion.sampling import executed_timesteps, sample_ddim
from ..diffusion.schedule import TIMESTEPS, share_done
from ..models.autoencoder import LATENT_SCALE
from ..models.layout import to_frames, to_volume
from ..models.motion import AS_TRAINED, Motion
from ..pipeline.references import mix_tokens
from .inputs import Conditioned, encode_image, encode_text
from .model import Model
from .objectives import predict
from .seeds import normal


@dataclass(frozen=True)
class Dials:
    steps: int = 20
    text_scale: float = 3.0
    image_scale: float | None = None
    eta: float = 1.0
    rescale: float = 0.7
    image_strength: float | Tensor = 1.0  # lambda, of all clips or of each
    seed: int = 0
    vdg: bool = True
    noise: NoisePrior = NoisePrior()
    motion: Motion = AS_TRAINED
    start_step: int = TIMESTEPS
    freeinit: int = 0
    guidance: OverRun | None = None  # in place of the scales and the rescale above
    negative: Tensor | None = None  # pictures [B,3,H,W] in place of grey
    references: Tensor | None = None  # a picture [B,3,H,W] for each, mixed into the context by this weight
    reference_weight: float = 1.0
    speed: Speed = EXACT
    context: bool = True  # False: the image's tokens are those of a grey picture


@torch.no_grad()
def picture_latents(model: Model, pictures: Tensor) -> Tensor:
    """The most likely latents, scaled: b 3 h w -> b c h w."""
    autoencoder = model.part("autoencoder")
    return autoencoder.encode(pictures.to(next(autoencoder.parameters()).dtype))[0].float() * LATENT_SCALE


@torch.no_grad()
def decode(model: Model, z: Tensor) -> Tensor:
    """b c t h w -> pixels b 3 t h w in -1..1"""
    autoencoder = model.part("autoencoder")
    frames = to_frames(z / LATENT_SCALE).to(next(autoencoder.parameters()).dtype)
    return to_volume(autoencoder.decode(frames, chunk=256).float().clamp(-1, 1), z.shape[2])


@torch.no_grad()
def generate(
    model: Model,
    pictures: Tensor,
    captions: Sequence[str],
    fs: Tensor,
    frames: int,
    dials: Dials = Dials(),
    last: Tensor | None = None,
) -> Tensor:
    """Pictures [B,3,H,W] and captions -> clips [B,3,T,H,W]; with `last`, from the pictures to these."""
    return decode(model, generate_latents(model, pictures, captions, fs, frames, dials, last))


@torch.no_grad()
def generate_latents(
    model: Model,
    pictures: Tensor,
    captions: Sequence[str],
    fs: Tensor,
    frames: int,
    dials: Dials = Dials(),
    last: Tensor | None = None,
) -> Tensor:
    """The same before it is decoded: scaled latents [B,c,T,h,w]."""
    was_training = [module.training for module in model.parts.values()]
    for module in model.parts.values():
        module.eval()
    latents = picture_latents(model, pictures)
    concat = latents[:, :, None].expand(-1, -1, frames, -1, -1).clone()
    if last is not None:
        concat[:, :, 1:-1] = 0
        concat[:, :, -1] = picture_latents(model, last)
    if not dials.vdg:
        concat.zero_()
    grey = encode_image(model, torch.zeros_like(pictures) if dials.negative is None else dials.negative, frames)
    seen = encode_image(model, pictures, frames) if dials.context else grey
    if dials.references is not None:
        seen = mix_tokens(seen, encode_image(model, dials.references, frames)[None], [dials.reference_weight])
    said, unsaid = encode_text(model, list(captions)), encode_text(model, [""] * len(captions))
    tokens = {"cond": (said, seen), "uncond": (unsaid, grey), "image_only": (unsaid, seen)}
    strength = dials.image_strength
    schedule = model.family.schedule()
    timesteps = executed_timesteps(dials.steps, model.family.spacing, dials.start_step)
    base = Conditioned(latents, concat, said, seen, fs.to(pictures.device))

    plan = ReusePlan.of(dials.speed, timesteps[::-1])
    inner = KeptInner(plan)

    def run(x: Tensor, t: Tensor, branches: tuple[str, ...]) -> Sequence[Tensor]:
        text = torch.cat([tokens[branch][0] for branch in branches])
        image = torch.cat([tokens[branch][1] for branch in branches])
        weight = strength.repeat(len(branches)) if isinstance(strength, Tensor) else strength
        given = replace(base, text=text, image=image, strength=weight)
        unet = model.part("unet")
        reuse = inner.hooks(len(unet.input_blocks), t[0].item(), branches)
        hooks = dials.motion.hooks(unet.places, share_done(t)).then(reuse)
        return predict(model, given, x, t, hooks).chunk(len(branches))

    start = normal([(dials.seed, "start", row) for row in range(len(pictures))], *concat.shape[1:]).to(concat)
    generator = torch.Generator().manual_seed(dials.seed)
    start = dials.noise.apply(start, generator)

    def sample(x: Tensor) -> Tensor:
        guidance = dials.guidance or Guidance(dials.text_scale, dials.image_scale, dials.rescale)
        return sample_ddim(
            keep_clip(guided(run, guidance, schedule), schedule, plan),
            x,
            schedule,
            dials.steps,
            model.family.spacing,
            dials.eta,
            dials.noise.of_steps(generator),
            start=dials.start_step,
            generator=generator,
        )

    z = sample(start)
    for _ in range(dials.freeinit):
        fresh = torch.randn(start.shape, generator=generator).to(start)
        z = sample(reinitialise(z, start, fresh, schedule, dials.start_step))
    for module, training in zip(model.parts.values(), was_training, strict=True):
        module.train(training)
    return z
