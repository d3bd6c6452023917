"""What a run can be asked for, by the names of the pipeline's keywords; the command line, jobs and films have the same ones."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

from ..diffusion.schedule import Spacing
from ..diffusion.windows import Fuse
from ..media.images import Fit
from .progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..media.images import ImageSource
    from .source_frames import FramesSource

# What the command line and job files call some options.
SHORT_NAMES = {"cfg": "text_scale", "cfg_image": "image_scale", "rescale": "guidance_rescale"}


class Options(TypedDict, total=False):
    """The keywords of every run; what is left out (or None) comes from the model's family."""

    negative: str  # what the video should not show
    negative_image: "ImageSource"  # the same as a picture, in place of mid-grey in the unconditional branch
    references: "Sequence[ImageSource]"  # more pictures in the context, mixed with the image
    reference_weights: Sequence[float]  # of each of them, or of all, beside the image's 1
    seed: int  # the same seed, the same video
    steps: int  # of denoising
    text_scale: float | str  # how strongly the prompt guides (cfg), or a curve over the run: "0: 9, 0.5: 7.5, 1: 3"
    image_scale: float | str | None  # how strongly the image guides, where not as strongly as the prompt
    context_strength: float  # of the image's tokens (lambda), 1: as trained; more holds the picture, less lets it move
    eta: float  # 0: deterministic DDIM, 1: as much new noise a step as DDPM
    spacing: Spacing  # of the timesteps
    guidance_rescale: float  # 0 to 1: against the overexposure of strong guidance
    fs: int  # motion: a frame stride or frames per second, as the family means it
    motion_scale: float  # motion guidance, in a model that takes it (T2V-Turbo-v2)
    frames: int  # the models were trained at 16
    width: int
    height: int
    fit: Fit  # of the image into width x height
    fps: float  # of the file, not of the motion
    start_step: int  # below 1000: leave out the noisiest timesteps (conditional image leakage)
    strength: float  # below 1: start from `original`, or the still image, noised to this share of the steps
    original: "FramesSource"  # frames that strength and mask refer to, or a video file
    mask: "ImageSource | Sequence[float]"  # 1 keeps `original`, 0 makes new: [T], [H,W] or [T,H,W], or an image file
    lock: int  # the frame at which the image stands exactly, in the latents; None: it is a guide only
    strokes: str  # where things go, in pixels of the image: "120,80 -> 180,90; radius 30; until 0.6; noise 0.3; ease-in-out", any part of it; or "camera pan 0.25 0, zoom 1.2"
    brush: "ImageSource"  # white is what may move, and with strokes what does; all else stands still
    brush_to: "ImageSource"  # in place of strokes: where what is brushed comes to lie
    flow: "str | os.PathLike[str] | np.ndarray | Tensor"  # likewise: [T or 1,H,W,2], how far each pixel comes, or a .npy file
    paste: bool  # the locked frame is the image itself, not what the autoencoder makes of it
    picture_strengths: Sequence[
        float
    ]  # the share of the run in which the detail of the image, or of both ends, is shown
    noise: str  # what frames have in common at first: "plain", "mixed 1", "progressive 1" or "residual 0.5"
    noise_path: str  # moves that: "pan 0.25 0, zoom 1.2, turn 10, from 0, to 1, ease-in-out", any part of it
    window: int  # frames the network sees at once of a longer clip; None: all
    overlap: int  # frames that neighbouring windows share: a quarter of the window, if nothing is said
    fuse: Fuse  # how what they share is averaged
    closed_loop: bool  # windows go on from the last frame to the first
    stride: int  # above 1: also windows of every second frame, of every fourth, ... up to this
    freenoise: bool  # later windows begin with the noise of earlier ones, shuffled
    then: Sequence[str]  # prompts of the stretches after the first, of equal length
    motion: str  # weights in the UNet: "middle 2, ends 1, strength 1.5, temperature 0.8, beside 0.5", any part of it
    guidance_limits: (
        str  # of a run and of a step: "from 0.1, to 0.8, parallel 0, norm 0.5, momentum -0.5", any part of it
    )
    sketches: "Mapping[int, ImageSource] | FramesSource"  # drawings by their frame, or one for each frame
    sketch_encoder: str  # ToonCrafter's file, which follows them
    sketch_plan: str  # "strength 0.6, from 0, to 0.8, light, free", any part of it
    speed: str  # "balanced" or "fast": what changes little from step to step is reused; "exact": nothing is
    freeinit: int  # how often to begin again from the low frequencies of the clip just made
    on_progress: Progress  # called with (stage, done, total)
