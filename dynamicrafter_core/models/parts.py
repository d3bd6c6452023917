"""The five parts of a model as modules: each built from its config, its shapes known without memory for its weights."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import nn

from ..part_names import PartName
from .autoencoder import Autoencoder, AutoencoderConfig
from .dual_reference import DualReferenceAutoencoder
from .encoders import TextTower, TextTowerConfig, VisionTower, VisionTowerConfig
from .projector import Projector, ProjectorConfig
from .tower_shapes import text_shapes, vision_shapes
from .unet import VideoUNet
from .unet_config import UNetConfig

PartConfig: TypeAlias = UNetConfig | ProjectorConfig | AutoencoderConfig | TextTowerConfig | VisionTowerConfig
Shapes = Mapping[str, tuple[int, ...]]

CONFIGS: Mapping[PartName, Any] = {
    "unet": UNetConfig,
    "projector": ProjectorConfig,
    "autoencoder": AutoencoderConfig,
    "text": TextTowerConfig,
    "vision": VisionTowerConfig,
}


def build(
    config: PartConfig,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    operations: Any = nn,
) -> nn.Module:
    match config:
        case UNetConfig():
            return VideoUNet(config, dtype, device, operations)
        case ProjectorConfig():
            return Projector(config, dtype, device, operations)
        case AutoencoderConfig():
            module = DualReferenceAutoencoder if config.dual_reference else Autoencoder
            return module(config, dtype, device, operations)
        case TextTowerConfig():
            return TextTower(config, dtype, device)
        case VisionTowerConfig():
            return VisionTower(config, dtype, device)


@lru_cache(maxsize=64)
def shapes_of(config: PartConfig) -> Shapes:
    """Key -> shape of the part's state dict."""
    match config:
        case TextTowerConfig():
            return text_shapes(config)
        case VisionTowerConfig():
            return vision_shapes(config)
    return {key: tuple(tensor.shape) for key, tensor in build(config, device="meta").state_dict().items()}


def unused_by_vision(text: TextTowerConfig) -> Shapes:
    """Released files keep, beside the vision tower, what was left of its CLIP's text side: all but the transformer."""
    return {key: shape for key, shape in shapes_of(text).items() if not key.startswith("transformer.")}
