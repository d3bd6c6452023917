"""Parts of one model in another: spatial layers, temporal layers and projector, each mixed by a share of its own.

The UNet's spatial half is Stable Diffusion 2's, so the temporal layers of a video model run on the spatial layers of an image
model: AnimateDiff (Guo et al. 2023) and SimDA (Xing et al. 2023) add them to one, VideoCrafter2 (Chen et al. 2024) was trained so.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from torch import Tensor

from ..checks import check_number
from ..errors import InputError
from ..families import Family
from ..models.layer_kinds import image_model_keys, temporal_keys
from ..models.parts import build
from ..models.unet import VideoUNet
from ..part_names import PartName, split_names
from .checkpoint import Checkpoint, Source, load_checkpoint
from .conversion import DType, Layout, Progress, write_checkpoint
from .detection import is_video_unet
from .other_models import name_other_model
from .reading import open_file

FIRST_CONV = "input_blocks.0.0.weight"  # reads the noise, and in most of these models the image's latent after it


@dataclass(frozen=True)
class Shares:
    """How much of each part comes from the second model: 0 keeps the first's, 1 takes the second's."""

    spatial: float = 0.0
    temporal: float = 0.0
    projector: float = 0.0

    def check(self) -> None:
        values = [check_number(field.name, getattr(self, field.name), 0, 1) for field in fields(self)]
        if not any(values):
            raise InputError(
                "spatial, temporal and projector are all 0, which keeps the first model; give one a share above 0."
            )


@dataclass(frozen=True, kw_only=True)
class MixedSource(Source):
    """A part of the first model, with shares of the second's."""

    other: Source
    shares: Mapping[str, float]  # of the keys that both have, above 0

    def tensor(self, key: str) -> Tensor:
        own = super().tensor(key)
        share = self.shares.get(key)
        return own if share is None else mix(own, self.other.tensor(key), share)

    def release(self) -> None:
        super().release()
        self.other.release()


def mix(own: Tensor, other: Tensor, share: float) -> Tensor:
    """Of two first convolutions, the input channels that both have are mixed; the rest stays the first model's."""
    mixed = own.float().clone()
    if own.shape == other.shape:
        mixed.lerp_(other.float(), share)
    else:
        both = min(own.shape[1], other.shape[1])
        mixed[:, :both].lerp_(other[:, :both].float(), share)
    return mixed.to(own.dtype)


def merge(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    spatial: float = 0.0,
    temporal: float = 0.0,
    projector: float = 0.0,
    dtype: DType = "fp16",
    layout: Layout = "whole",
    variant: str | Family = "auto",
    on_progress: Progress | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Writes `first` with shares of `second`, a model of the family or of Stable Diffusion 2's shape; the files written."""
    shares = Shares(spatial, temporal, projector)
    shares.check()
    checkpoint = load_checkpoint(first, variant)
    sources = dict(checkpoint.sources)
    if spatial or temporal:
        sources["unet"] = _mixed_unet(checkpoint, Path(second), shares)
    if projector:
        own, other = (_source(model, "projector") for model in (checkpoint, load_checkpoint(second)))
        sources["projector"] = _mixed(own, other, dict.fromkeys(own.names, projector))
    merged = replace(checkpoint, sources=sources)
    about = {"merged": {"with": Path(second).name, **asdict(shares)}}
    return write_checkpoint(merged, [first, second], target, dtype, layout, on_progress, overwrite, about)


def _source(checkpoint: Checkpoint, part: PartName) -> Source:
    source = checkpoint.source(part)
    if source.scales:
        raise InputError(f"{source.opened.path} is quantised; give a float16, bfloat16 or float32 file to merge.")
    return source


def _mixed_unet(checkpoint: Checkpoint, second: Path, shares: Shares) -> MixedSource:
    unet = build(checkpoint.configs["unet"], device="meta")
    assert isinstance(unet, VideoUNet)
    own, other = _source(checkpoint, "unet"), _unet_of(second, unet)
    over_time = temporal_keys(unet)
    if shares.temporal and not over_time & other.names.keys():
        raise InputError(f"{second} is an image model without temporal layers; set temporal to 0.")
    return _mixed(own, other, {key: shares.temporal if key in over_time else shares.spatial for key in own.names})


def _unet_of(path: Path, unet: VideoUNet) -> Source:
    """The second model's UNet under the first one's keys: all of a video model's, the spatial ones of an image model's."""
    opened = open_file(path)
    stored = split_names(opened.shapes).parts.get("unet", {key: key for key in opened.shapes})
    if is_video_unet(stored):
        return _source(load_checkpoint(path), "unet")
    names = image_model_keys(unet)
    if not stored.keys() >= set(names.values()):
        raise InputError(
            f"{path} is {name_other_model(opened.shapes)}; give a model of this family, or one with the UNet of Stable "
            "Diffusion 2 in its original layout."
        )
    return Source(opened, {key: stored[name] for key, name in names.items()})


def _mixed(own: Source, other: Source, shares: Mapping[str, float]) -> MixedSource:
    """A key that the second model lacks, such as an image's in a text-to-video model, stays the first model's."""
    shares = {key: share for key, share in shares.items() if share and key in other.names}
    for key in shares:
        here, there = own.shapes[key], other.shapes[key]
        if here != there and (key != FIRST_CONV or here[::2] != there[::2]):
            raise InputError(
                f"{other.opened.path} does not fit {own.opened.path}: {key} has the shape {list(there)} in the former and "
                f"{list(here)} in the latter; merge models of the same sizes."
            )
    return MixedSource(own.opened, own.names, own.scales, other=other, shares=shares)
