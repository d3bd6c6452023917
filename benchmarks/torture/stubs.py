"""The pipeline without its networks: all checks, files and figures are the real ones, and what is computed costs nothing."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

CLIPS = 8  # that a run may make, of which `analyse` makes a hundred
MOST = 4096  # latent pixels of a whole clip; a larger one is not begun: it was accepted, and would take its time


LOADED: dict[Any, Any] = {}  # the embedded model's parts, which a process loads once


class Accepted(BaseException):  # which no one takes for an accident
    """Everything was checked, and the work would begin."""


@contextlib.contextmanager
def without_networks() -> Iterator[None]:
    """Inside it a run ends in a grey clip, or, if that were a long one, in Accepted."""
    from dynamicrafter_core.checkpoints.checkpoint import Checkpoint
    from dynamicrafter_core.models.unet import VideoUNet
    from dynamicrafter_core.pipeline.pipeline import EMBEDDED, Pipeline
    from dynamicrafter_core.training.trainer import Trainer

    steps = clips = 0

    def make(pipeline: Any, settings: Any, *rest: Any) -> Any:
        nonlocal steps, clips
        steps, clips = 0, clips + 1
        if clips > CLIPS or settings.frames * settings.width * settings.height > 64 * MOST:
            raise Accepted
        return real(pipeline, settings, *rest)

    def forward(unet: Any, x: Any, timesteps: Any, text: Any, *rest: Any, **more: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > 2:
            raise Accepted
        return x[:, :4].repeat(len(text), 1, 1, 1, 1) * 0

    def train(trainer: Any, minutes: Any = None) -> Any:
        raise Accepted

    def load(checkpoint: Any, part: Any, dtype: Any = None, device: Any = "cpu", *rest: Any) -> Any:
        path = checkpoint.source(part).opened.path
        if path.parent != EMBEDDED:
            return real_load(checkpoint, part, dtype, device, *rest)
        key = (part, dtype, str(device))
        if key not in LOADED:
            LOADED[key] = real_load(checkpoint, part, dtype, device, *rest)
        return LOADED[key]

    real, real_load = Pipeline._make, Checkpoint.load
    with (
        patch.object(VideoUNet, "forward", forward),
        patch.object(Pipeline, "_make", make),
        patch.object(Trainer, "run", train),
        patch.object(Checkpoint, "load", load),
    ):
        yield
