"""What this pack's nodes write into CONDITIONING, and how each value meets the rows of a batch.

A video latent is [clips * frames, 4, h, w]: its rows are frames. The values below belong to clips; they are spread over the
frames only when the host cuts a batch, so that batching, context windows and ControlNets meet one row per frame everywhere.
"""

from typing import Any

import comfy.conds
import torch
from comfy.utils import repeat_to_batch_size
from torch import Tensor

from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.pipeline.conditions import spread_tokens

IMAGE = "dynamicrafter_image"  # [clips, frames of the projector or 1, tokens, width]
CONCAT = "dynamicrafter_concat"  # [clips, frames, 4, h, w], unscaled
STRENGTH = "dynamicrafter_strength"  # float: the weight of IMAGE, 1 as trained
FRAMES = "dynamicrafter_frames"  # int: frames of one clip
FS = "dynamicrafter_fs"  # int
GUIDANCE = "dynamicrafter_guidance"  # float: the guidance scale, an input of distilled models
MOTION_SCALE = "dynamicrafter_motion_scale"  # float: likewise
FAMILY = "dynamicrafter_family"  # the variant's record, with the file's own figures, for the nodes that come after


class PerClip(comfy.conds.CONDRegular):
    """One row a clip (or one for all of them)."""

    spread_as: type[comfy.conds.CONDRegular] = comfy.conds.CONDRegular

    def __init__(self, cond: Tensor, clips: int) -> None:
        super().__init__(cond)
        self.clips = clips

    def _copy_with(self, cond: Tensor) -> "PerClip":
        return type(self)(cond, self.clips)

    def process_cond(self, batch_size: int, **kwargs: Any) -> comfy.conds.CONDRegular:
        rows = repeat_to_batch_size(self.cond, self.clips)
        return self.spread_as(self.spread(rows, batch_size // self.clips))

    def spread(self, rows: Tensor, frames: int) -> Tensor:
        return rows.repeat_interleave(frames, 0)


class Text(PerClip):
    spread_as = comfy.conds.CONDCrossAttn


class ImageTokens(PerClip):
    """Each frame's own tokens, or the same for all."""

    def spread(self, rows: Tensor, frames: int) -> Tensor:
        return spread_tokens(rows, frames).expand(-1, frames, -1, -1).flatten(0, 1)


class Frames(comfy.conds.CONDConstant):
    """The frames of a clip in this batch, which may be a context window."""

    def __init__(self, clips: int) -> None:
        super().__init__(clips)

    def process_cond(self, batch_size: int, **kwargs: Any) -> comfy.conds.CONDConstant:
        return comfy.conds.CONDConstant(batch_size // self.cond)


class OnlyHere(comfy.conds.CONDConstant):
    """Stands in CONDITIONING until our own model replaces it; any other model trips over it."""

    def __init__(self) -> None:
        super().__init__(None)

    def process_cond(self, batch_size: int, **kwargs: Any) -> comfy.conds.CONDConstant:
        raise InputError(
            "This conditioning was made for a DynamiCrafter model, but the MODEL at the sampler is another one: connect "
            "the MODEL of DynamiCrafterLoad or DynamiCrafterLoadParts, or remove this pack's conditioning nodes."
        )


def write(conditioning: list, values: dict[str, Any]) -> list:
    """A copy of CONDITIONING with `values` set in every entry."""
    written = []
    for text, options in conditioning:
        model_conds = {**options.get("model_conds", {}), FRAMES: OnlyHere()}
        written.append([text, {**options, **values, "model_conds": model_conds}])
    return written


def read(conditioning: list, key: str) -> Any:
    """The first entry's value for `key`, or None."""
    return next((options[key] for _, options in conditioning if key in options), None)


def count_clips(rows: int, frames: int | None) -> int:
    """How many clips a latent of so many rows holds; without `frames`, all rows are one clip."""
    frames = frames or rows
    if rows % frames:
        raise InputError(
            f"The latent holds {rows} frames, which do not divide into clips of the {frames} that the conditioning "
            "was made for: connect the LATENT of the same DynamiCrafterVisualGuidance to the sampler."
        )
    return rows // frames


def rows_for_clips(value: Tensor, clips: int, what: str) -> Tensor:
    if clips % value.shape[0]:
        raise InputError(
            f"The conditioning holds {value.shape[0]} {what} for {clips} clip{'s'[: clips > 1]} in the latent: give one "
            "for all clips, or one for each, to DynamiCrafterImageContext and DynamiCrafterVisualGuidance alike."
        )
    return value if value.shape[0] == clips else value.repeat(clips // value.shape[0], *[1] * (value.ndim - 1))


def take_clips(rows: Tensor, frames: int) -> Tensor:
    """One row of each clip, where all its frames have the same: (b t) ... -> b ..."""
    return rows[::frames]


def same_rows(branches: int, *values: Tensor | None) -> bool:
    """Whether a batch of guidance branches repeats the same rows in all of them."""
    return all(
        torch.equal(value[: len(value) // branches].repeat(branches, *[1] * (value.ndim - 1)), value)
        for value in values
        if value is not None
    )
