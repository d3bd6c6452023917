"""The live preview plays the clip: every frame, as the host's previewer shows one latent.

The host's own preview is a still. Behind each of them this sends an animated PNG of all frames by the same progress bar, so
it reaches every page and works with every sampler, since it hangs on MODEL. Pages that draw on a canvas show its first
frame alone: web/preview.js makes it play there.
"""

import time
from collections.abc import Callable
from typing import Any

import comfy.latent_formats
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from torch import Tensor

FPS = 8
MOST = 64  # frames that are shown; of a longer clip every second, third and so on
SIDE = 256  # of a frame, in pixels
KNOWN = (latent_preview.Latent2RGBPreviewer, latent_preview.TAESDPreviewerImpl)


class ClipFormat(comfy.latent_formats.SD15):
    """Stable Diffusion's latents, of which the host's still shows the frame that is playing, and not always the first."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_rgb_factors_reshape = from_the_frame_on


def from_the_frame_on(latents: Tensor) -> Tensor:
    """The rows in playing order from now on, so that a new preview continues where the last one was."""
    shown = latents[:: -(-len(latents) // MOST)]
    return shown.roll(-(int(time.monotonic() * FPS) % len(shown)), 0)


class PlayingPicture:
    """A picture to the host, which saves it for the page: it looks like its first frame, and saves all frames."""

    def __init__(self, frames: list[Any]) -> None:
        self.frames = frames

    def __getattr__(self, name: str) -> Any:
        return getattr(self.frames[0], name)

    def save(self, file: Any, **options: Any) -> None:
        first, *others = self.frames
        playing = {"save_all": True, "append_images": others, "duration": 1000 // FPS, "loop": 0}
        first.save(file, **{**options, **playing})


def play(previewer: Any, latents: Tensor) -> PlayingPicture:
    frames = [previewer.decode_latent_to_preview(row[None]) for row in from_the_frame_on(latents)]
    for frame in frames:
        frame.thumbnail((SIDE, SIDE))
    return PlayingPicture(frames)


def show_clip(
    executor: Any, noise: Tensor, latent: Tensor, sampler: Any, sigmas: Tensor, *rest: Any, **named: Any
) -> Any:
    """A wrapper around a whole run; `rest` are the mask, the host's callback, and what differs from host to host."""
    mask, callback, *others = rest
    if callback is not None:
        callback = with_clip(callback, executor.class_obj.model_patcher)
    return executor(noise, latent, sampler, sigmas, mask, callback, *others, **named)


def with_clip(callback: Callable[..., None], model: ModelPatcher) -> Callable[..., None]:
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    if not isinstance(previewer, KNOWN):  # previews are off, or another pack plays its own
        return callback
    bar = comfy.utils.ProgressBar(1)

    def call(step: int, x0: Tensor, x: Tensor, total: int) -> None:
        callback(step, x0, x, total)
        if len(x0) > 1:
            bar.update_absolute(step + 1, total, ("PNG", play(previewer, x0), None))

    return call
