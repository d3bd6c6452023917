"""Checkpoints small enough to run whole clips in tests: two levels where the released models have four, one block each.

Frames are multiples of 4 pixels then, not of 64. All else is as in the released variant of that name.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tiny import tiny_configs
from torch import Tensor

from dynamicrafter_core.families import find_family
from dynamicrafter_core.models.parts import PartConfig, build
from dynamicrafter_core.models.sketch import SketchEncoder, SketchEncoderConfig
from dynamicrafter_core.models.unet_config import UNetConfig
from dynamicrafter_core.part_names import PREFIXES

WIDTH, HEIGHT, FRAMES = 24, 16, 16
ANIMATE, INTERPOLATE, TOON = "dynamicrafter_512", "dynamicrafter_512_interp", "tooncrafter_512"


def micro_configs(name: str) -> dict[str, PartConfig]:
    configs: dict[str, Any] = tiny_configs(name)
    configs["unet"] = replace(configs["unet"], channel_mult=(1, 2), res_blocks=1, attention_levels=(0,))
    configs["autoencoder"] = replace(configs["autoencoder"], channel_mult=(1, 1), res_blocks=1)
    return configs


@lru_cache(maxsize=12)
def micro_state(name: str) -> dict[str, Tensor]:
    state = dict(find_family(name).schedule().registered_buffers())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for part, config in micro_configs(name).items():
            module = build(config)
            for key, tensor in module.state_dict().items():
                # Zero-initialised layers would hide what passes through them.
                state[PREFIXES[part] + key] = (
                    tensor if tensor.any() or tensor.ndim < 2 else 0.05 * torch.randn_like(tensor)
                )
    return state


def micro_checkpoint(
    path: Path, name: str, parts: tuple[str, ...] = tuple(PREFIXES), dtype: torch.dtype = torch.float32, **figures: Any
) -> Path:
    """Writes the checkpoint, with its variant and its frame size (and other `figures`) in the metadata."""
    kept = tuple(PREFIXES[part] for part in parts)
    state = {
        key: tensor.to(dtype).contiguous() if "." in key else tensor
        for key, tensor in micro_state(name).items()
        if "." not in key or key.startswith(kept)
    }
    own = {"family": name, "figures": {"width": WIDTH, "height": HEIGHT, "frames": FRAMES, **figures}}
    save_file(state, path, metadata={"dynamicrafter": json.dumps(own)})
    return path


def picture(seed: int = 0, width: int = 60, height: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


class Spy:
    """Stands in for the UNet: records its inputs, and predicts what it is set to."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.answer: float | Callable[[Tensor], Tensor] = 0.0

    def __call__(
        self, unet: Any, x: Tensor, timesteps: Tensor, text: Tensor, image: Any = None, fs: Any = None, **more: Any
    ) -> Tensor:
        self.calls.append({"x": x, "t": timesteps, "text": text, "image": image, "fs": fs, **more})
        out = x[:, :4].repeat(len(text), 1, 1, 1, 1)
        return self.answer(out) if callable(self.answer) else torch.full_like(out, self.answer)

    @property
    def first(self) -> dict[str, Any]:
        return self.calls[0]


def sketch_config(unet: UNetConfig, cell: int) -> SketchEncoderConfig:
    """Of a sketch encoder that fits a UNet, and an autoencoder of so many pixels a latent pixel."""
    own = replace(
        unet,
        in_channels=4,
        temporal_conv=False,
        relative_reach=0,
        init_attention=False,
        image_attention=False,
        image_scale_learnable=False,
        fs_condition=False,
    )
    return SketchEncoderConfig(own, hint_widths=(4, 6, 8, 10)[: cell.bit_length()])


def write_sketch_encoder(path: Path, config: SketchEncoderConfig, prefix: str = "", size: float = 0.05) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = SketchEncoder(config).state_dict()
        state = {
            prefix + key: tensor if tensor.any() or tensor.ndim < 2 else size * torch.randn_like(tensor)
            for key, tensor in state.items()
        }
    figures = {"head_channels": config.unet.head_channels, "norm_groups": config.unet.norm_groups}
    save_file(state, path, metadata={"dynamicrafter": json.dumps({"sketch": figures})})
    return path


def micro_sketch_encoder(path: Path, name: str = ANIMATE, **named: Any) -> Path:
    configs: dict[str, Any] = micro_configs(name)
    return write_sketch_encoder(path, sketch_config(configs["unet"], configs["autoencoder"].size_factor), **named)
