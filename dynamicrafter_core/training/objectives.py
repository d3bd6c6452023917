"""What is minimised in each kind of stage; every loss is a mean over the clips, with figures for the log."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..diffusion.schedule import NoiseSchedule
from ..models.autoencoder import LATENT_SCALE, Autoencoder
from ..models.hooks import NO_HOOKS, Hooks
from .clips import Clips, MovedClips
from .critic import Critic, adversarial_loss
from .inputs import Conditioned, condition, encode_image, encode_text
from .measures import perceptual_loss
from .model import Model, latents_before
from .motions import MOTIONS
from .recipe import Stage, Timesteps
from .seeds import Word, normal, uniform

if TYPE_CHECKING:
    from .answers import Answers

_SHIFT, _ZOOM = 1.0, 0.1  # at most: pixels of the latent, and share of the size
Rows = list[tuple[Word, ...]]
Figures = dict[str, Any]  # numbers, some of them still tensors


def draw_timesteps(rows: Rows, timesteps: Timesteps) -> Tensor:
    """b, integers; `high_share` of them at `high_from` or above."""
    chance = uniform([(*row, "timestep") for row in rows], 2)
    low = torch.where(chance[:, 0] < timesteps.high_share, max(timesteps.low, timesteps.high_from), timesteps.low)
    return (low + chance[:, 1] * (timesteps.high + 1 - low)).long().clamp(max=timesteps.high)


def predict(model: Model, given: Conditioned, x: Tensor, t: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
    """The UNet's answer for noisy latents x, in float32."""
    unet = model.part("unet")
    dtype = unet.time_embed[0].weight.dtype
    joined = x.to(dtype) if given.concat is None else torch.cat([x.to(dtype), given.concat.to(dtype)], 1)
    if joined.device.type == "cpu" and torch.is_grad_enabled():
        joined.requires_grad_()  # PyTorch's group norm dies on channels-last input that wants no gradient (2.11, CPU)
    return unet(joined, t, given.text, given.image, given.fs, image_strength=given.strength, hooks=hooks).float()


def diffusion_loss(
    model: Model, latents: Any, stage: Stage, schedule: NoiseSchedule, rows: Rows
) -> tuple[Tensor, Figures]:
    """Mean squared error of v (or eps) at drawn noise levels."""
    given = condition(model, latents, stage, rows)
    t = draw_timesteps(rows, stage.timesteps).to(given.z.device)
    noise = normal([(*row, "noise") for row in rows], *given.z.shape[1:], device=given.z.device)
    output = predict(model, given, schedule.q_sample(given.z, t, noise), t)
    loss = F.mse_loss(output, schedule.target(given.z, t, noise))
    return loss, {}


def autoencoder_loss(
    model: Model,
    clips: Clips,
    stage: Stage,
    rows: Rows,
    before: Autoencoder | None = None,
    critic: Critic | None = None,
    answers: "Answers | None" = None,
) -> tuple[Tensor, Figures]:
    """Reconstruction of every frame, edges included, and a light pull to a normal distribution; with an anchor, a pull to the
    latents of the autoencoder `before` too, and with a critic, detail that it takes for true. `answers` are decoded in place of what
    is encoded."""
    autoencoder = model.part("autoencoder")
    dtype = next(autoencoder.parameters()).dtype
    chosen = uniform([(*row, "frame") for row in rows], max(1, stage.frames))
    index = (chosen * clips.pixels.shape[2]).long().to(clips.pixels.device)
    batch = torch.arange(len(clips.pixels), device=clips.pixels.device)[:, None]
    pixels = clips.pixels.transpose(1, 2)[batch, index].flatten(0, 1)  # n 3 h w
    mean, logvar = autoencoder.encode(pixels.to(dtype))
    wanted = mean if before is None else latents_before(before, autoencoder, pixels)
    noise = normal([(*row, "posterior") for row in rows], max(1, stage.frames), *mean.shape[1:]).flatten(0, 1)
    latents = mean + (0.5 * logvar).exp() * noise.to(mean)
    if answers is not None:
        latents = answers.stand_in(latents.unflatten(0, index.shape), index).flatten(0, 1)
    if stage.equivariance:
        latents, pixels = _moved(latents, pixels, stage, rows)
    made = autoencoder.decode(latents).float()
    mean, logvar = mean.float(), logvar.float()
    error = F.mse_loss(made, pixels)
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    figures = {"mse": error.detach(), "kl": kl.detach()}
    loss = error + stage.perceptual * 0.1 * perceptual_loss(made, pixels) + stage.kl * kl
    if before is not None:
        held = LATENT_SCALE**2 * F.mse_loss(mean[:, : wanted.shape[1]], wanted.float())
        loss, figures = loss + stage.anchor * held, {**figures, "anchor": held.detach()}
    if critic is not None:
        passing, judging = adversarial_loss(critic, made, pixels)
        loss = loss + stage.adversarial * passing + judging
        figures |= {"passing": passing.detach(), "judging": judging.detach()}
    return loss, figures


def _moved(latents: Tensor, pixels: Tensor, stage: Stage, rows: Rows) -> tuple[Tensor, Tensor]:
    """A share of the pictures moved and zoomed a little, in their latents and in the pixels that these should give (EQ-VAE,
    Kouzelis et al. 2025): what moves by parts of a latent's pixel is then as good as what is encoded where it moved to."""
    each = len(latents) // len(rows)
    chance = uniform([(*row, "moved") for row in rows], 4).repeat_interleave(each, 0).to(pixels.device)
    share, x, y, zoom = chance.unbind(1)
    some = (share < stage.equivariance).float()
    scale = 1 + some * _ZOOM * (2 * zoom - 1)
    shift = [
        some * _SHIFT * 2 * (2 * place - 1) / size for place, size in ((x, latents.shape[3]), (y, latents.shape[2]))
    ]
    none = torch.zeros_like(scale)
    turn = torch.stack([scale, none, shift[0], none, scale, shift[1]], 1).unflatten(1, (2, 3))  # n 2 3

    def move(picture: Tensor, mode: str) -> Tensor:
        grid = F.affine_grid(turn, list(picture.shape), align_corners=False)
        there = F.grid_sample(picture.float(), grid, mode, padding_mode="reflection", align_corners=False)
        return torch.where(some.bool()[:, None, None, None], there.to(picture.dtype), picture)

    return move(latents, "bilinear"), move(pixels, "bicubic").clamp(-1, 1)


class TowerHeads(nn.Module):
    """What the towers are asked while they warm up: which motion a caption means, and what a picture looked like, in small."""

    SIDE = 8

    def __init__(self, text_width: int, image_width: int, tokens: int) -> None:
        super().__init__()
        self.motion = nn.Linear(text_width, len(MOTIONS))
        self.picture = nn.Linear(image_width * tokens, 4 * self.SIDE**2)


def towers_loss(model: Model, heads: TowerHeads, clips: MovedClips, rows: Rows) -> tuple[Tensor, Figures]:
    """The caption's motion from its tokens, the picture's colours and its front from each frame's image tokens."""
    names = list(MOTIONS)
    said = encode_text(model, clips.captions).float().mean(1)
    wanted = torch.tensor([names.index(motion) for motion in clips.motions], device=said.device)
    meaning = F.cross_entropy(heads.motion(said), wanted)
    tokens = encode_image(model, clips.pixels[:, :, 0]).float()  # b t n d
    made = heads.picture(tokens.flatten(2)).unflatten(-1, (4, heads.SIDE, heads.SIDE))
    seen = torch.cat([clips.pixels[:, :, 0], clips.front[:, :, 0] * 2 - 1], 1)
    small = F.adaptive_avg_pool2d(seen, heads.SIDE)[:, None].expand_as(made)
    picture = F.mse_loss(made, small)
    right = (heads.motion(said).argmax(1) == wanted).float().mean()
    return meaning + 4 * picture, {"meaning": right.detach(), "picture": picture.detach()}  # type: ignore[dict-item]
