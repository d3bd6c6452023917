"""The pictures of one run, read and brought to the clip's size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..camera.camera import Camera
from ..diffusion.noise import NoisePrior
from ..media.images import fit_image, read_image
from ..strokes.asked import asks_something
from ..strokes.flow import Frame
from ..strokes.lead import Lead, LedNoise, make_lead
from .settings import Settings
from .sketches import Drawings, read_drawings
from .source_frames import read_brush, read_flow, read_frames, read_mask

if TYPE_CHECKING:
    from ..media.images import ImageSource


@dataclass(frozen=True)
class Kept:
    """Frames that a clip begins with; `latents` [c,t,h,w] are those of the clip they end, where they are known."""

    frames: "Sequence[ImageSource]"
    latents: Tensor | None


@dataclass(frozen=True)
class Given:
    images: list[Tensor]  # 3 H W, as they came
    fitted: list[Tensor]  # 3 height width; behind the image the further views of a guide
    original: Tensor | None  # t 3 height width; of a clip that goes on, the kept frames alone
    mask: Tensor | None  # 1 1 (t or 1) h w
    kept: Tensor | None  # 1 c k h w: what `original` is as latents, where that is known
    negative: Tensor | None  # 3 H W, of the context alone
    references: list[Tensor]  # 3 H W each, likewise
    drawings: Drawings | None
    lead: Lead | None = None  # by strokes and a brush; then `original` and `mask` are its own

    def prior(self, noise: NoisePrior) -> "NoisePrior | LedNoise":
        return noise if self.lead is None or self.lead.noise is None else LedNoise(noise, self.lead.noise)

    def follow(self, concat: Tensor | None, original: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Detail and latents of a run that is led: frames that lead are shown as detail too, behind the image itself."""
        if self.lead is None or self.lead.weight is None or original is None:
            return concat, original
        original = self.lead.settle(original)
        return None if concat is None else torch.cat([concat[:, :, :1], original[:, :, 1:].to(concat)], 2), original

    @property
    def led(self) -> dict[str, Any]:
        """The sampler's keywords."""
        if self.lead is None or self.lead.weight is None:
            return {}
        return {"lead": self.lead.weight[None, None], "lead_until": self.lead.until}


def read_given(
    settings: Settings,
    images: list[Tensor],
    options: Mapping[str, Any],
    factor: int,
    guide: "Camera | Sequence[ImageSource] | None" = None,
    kept: Kept | None = None,
) -> Given:
    """`factor`: pixels along a side that one latent pixel covers."""
    frame = (settings.width, settings.height, settings.fit)
    original, mask, negative = options.get("original"), options.get("mask"), options.get("negative_image")
    if settings.lock is not None:
        mask = [float(frame == settings.lock) for frame in range(settings.frames)]
    fitted = [fit_image(image, *frame) for image in (images if kept is None else [read_image(kept.frames[0])])]
    if guide is not None:
        fitted += _views(guide, fitted[0], settings)
    count = settings.frames if kept is None else len(kept.frames)
    lead = _lead(settings, images, fitted, options, factor)
    if lead is not None:
        original, mask = None, None
    made = Given(
        images=images,
        fitted=fitted,
        original=None if original is None else read_frames("original", original, count, *frame),
        mask=None if mask is None else read_mask(mask, settings.frames, *frame, factor),
        kept=None if kept is None else _known_latents(kept, settings.height // factor, settings.width // factor),
        negative=None if negative is None else read_image(negative),
        references=[read_image(reference) for reference in options.get("references", ())],
        drawings=_drawings(options["sketches"], settings) if settings.sketched else None,
    )
    if lead is None:
        return made
    return replace(
        made, lead=lead, original=lead.frames, mask=None if lead.keep is None else lead.keep[None, None, None]
    )


def _lead(
    settings: Settings, images: list[Tensor], fitted: list[Tensor], options: Mapping[str, Any], factor: int
) -> Lead | None:
    brush, brush_to, flow = map(options.get, ("brush", "brush_to", "flow"))
    if not asks_something(settings.strokes, brush, brush_to, flow):
        return None
    size = settings.width, settings.height, settings.fit
    frame = Frame((images[0].shape[2], images[0].shape[1]), *size)
    now = None if brush is None else read_brush("brush", brush, *size)
    later = None if brush_to is None else read_brush("brush-to", brush_to, *size)
    given = None if flow is None else read_flow(flow)
    return make_lead(fitted[0], frame, settings.frames, factor, settings.strokes, now, later, given)


def _views(guide: "Camera | Sequence[ImageSource]", image: Tensor, settings: Settings) -> list[Tensor]:
    """What the guide shows after the first frame, which is the image itself."""
    if isinstance(guide, Camera):
        views, _ = guide.views(image, settings.frames, settings.fit)
    else:
        views = read_frames("guide", guide, settings.frames, settings.width, settings.height, settings.fit)
    return list(views[1:])


def _drawings(sketches: Any, settings: Settings) -> Drawings:
    size = settings.width, settings.height
    return read_drawings(sketches, settings.sketched, settings.frames, size, settings.fit, settings.sketch_plan)


def _known_latents(kept: Kept, height: int, width: int) -> Tensor | None:
    """If they are of the size that is asked for, nothing is lost by decoding and encoding again."""
    if kept.latents is None or tuple(kept.latents.shape[2:]) != (height, width):
        return None
    return kept.latents[None, :, -len(kept.frames) :]
