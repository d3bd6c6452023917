"""The trials of an analysis, and what is measured of their clips.

lambda      the weight of the image beside the text, in all of the UNet, in a part of it, or in a part of the run: the figure of the
            DynamiCrafter paper (Xing et al. 2023), for any model
weights     noise of low rank on the layers that look at single frames, or on those that look at time: which of them break what
            (VideoCrafter2, Chen et al. 2024, section 3)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.layer_kinds import temporal_keys
from ..models.unet import VideoUNet
from ..pipeline.pipeline import Pipeline
from ..training.measures import conformity

LAMBDAS = (0.5, 1.0, 1.5, 2.0, 3.0)
AMOUNTS = (0.0, 0.1, 0.2, 0.4)  # of the noise on weights, in their own spread
RANK = 4
PARTS: dict[str, Callable[[float], str]] = {
    "all": lambda value: f"middle {value:g}, ends {value:g}",
    "middle": lambda value: f"middle {value:g}",
    "ends": lambda value: f"ends {value:g}",
    "first half of the run": lambda value: f"middle {value:g}, ends {value:g}, to 0.5",
    "second half of the run": lambda value: f"middle {value:g}, ends {value:g}, from 0.5",
}
LAYERS = ("spatial", "temporal")


@dataclass(frozen=True)
class Trial:
    group: str
    value: float
    frames: Tensor  # uint8 T H W 3
    motion: float  # mean change from frame to frame, of 255
    likeness: float  # of all frames to the picture, 0 to 1


def try_lambda(pipeline: Pipeline, image: Any, prompt: str, options: dict[str, Any]) -> Iterator[Trial]:
    for group, told in PARTS.items():
        for value in LAMBDAS:
            clip = pipeline.animate(image, prompt, motion=told(value), **options)
            yield measured(group, value, clip.frames)


def try_weights(pipeline: Pipeline, image: Any, prompt: str, options: dict[str, Any]) -> Iterator[Trial]:
    """Needs a pipeline that keeps its parts, since the noise is put on the weights where they lie."""
    for group in LAYERS:
        for amount in AMOUNTS:
            with shaken(pipeline, group, amount):
                yield measured(group, amount, pipeline.animate(image, prompt, **options).frames)


@contextmanager
def shaken(pipeline: Pipeline, layers: str, amount: float) -> Iterator[None]:
    """Meanwhile, the matrices of these layers have noise of low rank on them, `amount` of their spread."""
    kept: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(0)

    def shake(unet: VideoUNet) -> None:
        temporal = temporal_keys(unet)
        for key, weight in unet.named_parameters():
            if weight.ndim < 2 or (key in temporal) != (layers == "temporal"):
                continue
            kept[key] = weight.detach().clone()
            rows, columns = len(weight), weight[0].numel()
            noise = torch.randn(rows, RANK, generator=generator) @ torch.randn(RANK, columns, generator=generator)
            spread = weight.detach().float().std() * amount / RANK**0.5
            weight.data += (noise.view_as(weight).to(weight.device) * spread).to(weight)

    def restore(unet: VideoUNet) -> None:
        for key, weight in unet.named_parameters():
            if key in kept:
                weight.data.copy_(kept[key])

    with torch.inference_mode():
        pipeline.parts.use("unet", shake)
    try:
        yield
    finally:
        with torch.inference_mode():
            pipeline.parts.use("unet", restore)


def measured(group: str, value: float, frames: Tensor) -> Trial:
    """The first frame stands for the picture, so that what the autoencoder loses counts nowhere."""
    pixels = frames.float().movedim(-1, 0)[None] / 127.5 - 1  # 1 3 t h w
    motion = float((frames[1:].float() - frames[:-1].float()).abs().mean()) if len(frames) > 1 else 0.0
    return Trial(group, value, frames, motion, float(conformity(pixels, pixels[:, :, 0])[0]))
