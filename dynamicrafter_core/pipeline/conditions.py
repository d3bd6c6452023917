"""The UNet's inputs besides the noise: the prompt, the image as tokens, the image as a latent, and fs.

text     penultimate CLIP tokens of the prompt, and of the negative prompt
image    CLIP tokens of the whole image, through the projector; of mid-grey where the image is to have no say
concat   visual detail guidance: the image's own latent, or a guide's, beside every frame's noise, in every guidance branch
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..diffusion.guidance import RunBranches
from ..diffusion.reuse import NOTHING_REUSED, KeptInner, ReusePlan
from ..diffusion.schedule import share_done
from ..diffusion.windows import Windows, fuse
from ..families import Mode
from ..models.autoencoder import LATENT_SCALE
from ..models.chunks import in_chunks
from ..models.motion import AS_TRAINED, Motion
from ..models.sketch import SketchEncoder
from ..models.unet import VideoUNet
from .sketches import Drawings

# Guidance branch -> which of (prompt, negative prompt) and of (image, mid-grey) it sees.
_BRANCHES = {"cond": (0, 0), "uncond": (1, 1), "image_only": (1, 0)}


RunTold = Callable[[Tensor, Tensor, Tensor, Tensor | None], Sequence[Tensor]]
Run = TypeVar("Run", bound=Callable[..., Sequence[Tensor]])


@dataclass(frozen=True)
class Conditions:
    text: Tensor  # 2 l d: prompt, negative prompt
    image: Tensor | None  # 2 (t or 1) n d: image, mid-grey
    concat: Tensor | None  # 1 c t h w
    fs: int | None
    context_strength: float = 1.0
    later: Tensor | None = None  # n l d: prompts of the stretches after the first, in a clip of several windows
    shown_until: Tensor | None = (
        None  # t: the share of the run in which each frame's `concat` is shown; None: all of it
    )
    drawings: Drawings | None = None

    def to(self, dtype: torch.dtype) -> "Conditions":
        image, concat, later = (None if x is None else x.to(dtype) for x in (self.image, self.concat, self.later))
        return replace(self, text=self.text.to(dtype), image=image, concat=concat, later=later)

    def of(self, window: Sequence[int], frames: int) -> "Conditions":
        """Those of a window of a clip: its frames' own latents, the image's tokens spread over it, its stretch's prompt."""
        image = None if self.image is None else spread_tokens(self.image, len(window))
        concat = None if self.concat is None else self.concat[:, :, list(window)]
        text = self.text
        if self.later is not None:
            prompts = torch.cat([text[:1], self.later])
            stretch = stretch_of(window, frames, len(prompts))
            text = torch.cat([prompts[stretch : stretch + 1], text[1:]])
        until = None if self.shown_until is None else self.shown_until[list(window)]
        drawings = None if self.drawings is None else self.drawings.of(window)
        return replace(self, text=text, image=image, concat=concat, later=None, shown_until=until, drawings=drawings)

    def control(self, encoder: SketchEncoder | None, x: Tensor, t: Tensor, texts: Tensor) -> dict[str, Any]:
        """What the UNet is told of the drawings, for the noisy latent x and these rows of text; nothing without drawings."""
        if encoder is None or self.drawings is None:
            return {}
        return {"control": self.drawings.residuals(encoder, x.to(self.text.dtype), t, self.text[texts])}

    def detail(self, t: Tensor) -> Tensor | None:
        """`concat` at timesteps t [B], without the pictures whose share of the run is over."""
        if self.concat is None or self.shown_until is None:
            return self.concat
        shown = ((self.shown_until > share_done(t)) | (self.shown_until == 1)).to(self.concat)
        return self.concat * shown[:, None, None]


def stretch_of(window: Sequence[int], frames: int, stretches: int) -> int:
    """In which of the equal stretches of a clip the middle of a window lies."""
    return min(int((min(window) + max(window)) / (2 * frames) * stretches), stretches - 1)


def sample_posterior(mean: Tensor, logvar: Tensor, generator: torch.Generator) -> Tensor:
    """Scaled latents as the models were trained on them: a sample of the posterior, not its mode."""
    noise = torch.randn(mean.shape, generator=generator).to(mean.device)
    return LATENT_SCALE * (mean.float() + (0.5 * logvar.float()).exp() * noise)


def concat_latents(mode: Mode, latents: Tensor, frames: int) -> Tensor:
    """The images' latents [n,c,h,w] -> [1,c,t,h,w]: one in every frame, two at the ends and zeros between, or a guide's own."""
    if mode == "fly":
        return latents.transpose(0, 1)[None]
    if mode == "animate":
        return latents[:1, :, None].expand(-1, -1, frames, -1, -1)
    ends = latents.new_zeros(1, latents.shape[1], frames, *latents.shape[2:])
    ends[:, :, 0], ends[:, :, -1] = latents[0], latents[-1]
    return ends


def spread_strengths(strengths: Sequence[float], frames: int) -> Tensor | None:
    """Of one picture for every frame, or of two for the halves of a clip they are the ends of; None: all are shown throughout."""
    if all(strength == 1 for strength in strengths):
        return None
    until = torch.full((frames,), float(strengths[0]))
    until[(frames + 1) // 2 :] = strengths[-1]
    return until


def spread_tokens(tokens: Tensor, frames: int) -> Tensor:
    """Per-frame image tokens [b,16,n,d] for a clip of another length: each frame takes those of its place in time.

    The first and last frames keep the first and last tokens. (The reference gives every frame all tokens as soon as the
    length is not the trained one, which the model has never seen.)
    """
    trained = tokens.shape[1]
    if trained in (1, frames):
        return tokens
    places = torch.linspace(0, trained - 1, frames).round().long()
    return tokens[:, places.to(tokens.device)]


def run_branches(
    unet: VideoUNet,
    conditions: Conditions,
    motion: Motion = AS_TRAINED,
    encoder: SketchEncoder | None = None,
    plan: ReusePlan = NOTHING_REUSED,
) -> RunBranches:
    """The guidance branches in one batch, which shares what comes before the first look at the text.

    What the plan says is kept from step to step is kept for these branches of this run alone.
    Where a batch does not fit the memory, this and all later steps go through in smaller ones, at last one by one.
    The UNet runs in the dtype of the conditions.
    """
    chunk: int | None = None
    kept = KeptInner(plan) if plan.reuses_inner else None

    def run(x: Tensor, t: Tensor, names: Sequence[str]) -> Sequence[Tensor]:
        nonlocal chunk
        latent = x.to(conditions.text.dtype)
        detail = conditions.detail(t)
        if detail is not None:
            latent = torch.cat([latent, detail], dim=1)  # noise first
        fs = None if conditions.fs is None else torch.full_like(t, conditions.fs)
        hooks, sizes = motion.hooks(unet.places, share_done(t)), []

        def batch(rows: Tensor) -> Tensor:
            text_row, image_row = rows.T
            image = None if conditions.image is None else conditions.image[image_row]
            text, control = conditions.text[text_row], conditions.control(encoder, x, t, text_row)
            keys = [tuple(row) for row in rows.tolist()] if kept else []
            both = hooks.then(kept.hooks(len(unet.input_blocks), t[0].item(), keys)) if kept else hooks
            more = {"image_strength": conditions.context_strength, "hooks": both, **control}
            out = unet(latent, t, text, image, fs, **more)
            sizes.append(len(rows))
            return out

        rows = torch.tensor([_BRANCHES[name] for name in names], device=x.device)
        out = in_chunks(batch, rows, chunk)
        if max(sizes) < len(rows):  # not a step that has fewer branches
            chunk = max(sizes)
        return out.split(1)

    return run


def run_told(
    unet: VideoUNet, conditions: Conditions, motion: Motion = AS_TRAINED, encoder: SketchEncoder | None = None
) -> RunTold:
    """One pass for the prompt, of a network that takes the guidance scale as an input and needs no further passes."""

    def predict(x: Tensor, t: Tensor, guidance: Tensor, motion_scale: Tensor | None) -> Sequence[Tensor]:
        fs = None if conditions.fs is None else torch.full_like(t, conditions.fs)
        latent, text = x.to(conditions.text.dtype), conditions.text[:1]
        hooks = motion.hooks(unet.places, share_done(t))
        control = conditions.control(encoder, x, t, torch.zeros(1, dtype=torch.long, device=x.device))
        return [unet(latent, t, text, fs=fs, guidance=guidance, motion_scale=motion_scale, hooks=hooks, **control)]

    return predict


def in_windows(windows: Windows | None, conditions: Conditions, frames: int, make: Callable[[Conditions], Run]) -> Run:
    """What `make` makes of the whole clip's conditions; with windows, of each window's own, and their answers are fused."""
    if windows is None:
        return make(conditions.of(range(frames), frames))

    def runs_of(turn: int) -> dict[tuple[int, ...], Run]:
        return {tuple(window): make(conditions.of(window, frames)) for window in windows.places(frames, turn)}

    turned, runs = 0, runs_of(0)

    def run(x: Tensor, t: Tensor, *given: Any) -> Sequence[Tensor]:
        nonlocal turned, runs
        if windows.closed_loop and (turn := windows.turn(t[0])) != turned:
            turned, runs = turn, runs_of(turn)
        return fuse(windows, x, lambda window, part: runs[tuple(window)](part, t, *given), turned)

    return run  # type: ignore[return-value]
