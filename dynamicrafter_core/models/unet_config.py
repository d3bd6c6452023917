"""The figures that make a 3D UNet, read from a released YAML config or inferred from a checkpoint's shapes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError

Shapes = Mapping[str, tuple[int, ...]]

# Settings of the original code that no released model uses; a config that does is another network.
_FIXED = {
    "use_scale_shift_norm": False,
    "resblock_updown": False,
    "tempspatial_aware": False,
    "temporal_attention": True,
    "temporal_selfatt_only": True,
    "use_linear": True,
    "conv_resample": True,
    "dims": 2,
}


@dataclass(frozen=True)
class UNetConfig:
    in_channels: int = 8
    out_channels: int = 4
    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    res_blocks: int = 2
    attention_levels: tuple[int, ...] = (0, 1, 2)
    head_channels: int = 64
    context_dim: int = 1024
    depth: int = 1
    temporal_conv: bool = True
    relative_reach: int = 0  # frames; 0: no relative positions
    init_attention: bool = True
    image_attention: bool = True
    image_scale_learnable: bool = False
    image_scale: float = 1.0
    fs_condition: bool = True
    default_fs: int = 16
    guidance_dim: int = 0  # values that the guidance scale enters as (T2V-Turbo); 0: it does not enter
    motion_dim: int = 0  # the same of the motion scale
    causal: bool = False
    norm_groups: int = 32
    dropout: float = 0.0

    @property
    def size_factor(self) -> int:
        """Latent heights and widths must be multiples of this."""
        return 2 ** (len(self.channel_mult) - 1)

    @classmethod
    def from_reference(cls, config: Mapping[str, Any]) -> "UNetConfig":
        """From the names the released YAML configs use (DynamiCrafter's and VideoCrafter's)."""
        for name, value in _FIXED.items():
            if config.get(name, value) != value:
                raise InputError(
                    f"A UNet config with {name}={config[name]!r} is not of this family, which has {value!r}."
                )
        levels = [config["attention_resolutions"], config["channel_mult"]]
        return cls(
            in_channels=config["in_channels"],
            out_channels=config["out_channels"],
            model_channels=config["model_channels"],
            channel_mult=tuple(config["channel_mult"]),
            res_blocks=config["num_res_blocks"],
            attention_levels=tuple(level for level in range(len(levels[1])) if 2**level in levels[0]),
            head_channels=config["num_head_channels"],
            context_dim=config["context_dim"],
            depth=config.get("transformer_depth", 1),
            temporal_conv=config.get("temporal_conv", False),
            relative_reach=config["temporal_length"] if config.get("use_relative_position") else 0,
            init_attention=config.get("addition_attention", False),
            image_attention=config.get("image_cross_attention", config.get("use_image_attention", False)),
            image_scale_learnable=config.get("image_cross_attention_scale_learnable", False),
            image_scale=config.get("image_cross_attention_scale", 1.0),
            fs_condition=config.get("fs_condition", config.get("fps_cond", False)),
            default_fs=config.get("default_fs", 16),
            guidance_dim=config.get("time_cond_proj_dim") or 0,
            motion_dim=config.get("motion_cond_proj_dim") or 0,
            causal=config.get("use_causal_attention", False),
            dropout=config.get("dropout", 0.0),
        )

    @classmethod
    def from_shapes(cls, shapes: Shapes, **known: Any) -> "UNetConfig":
        """From a state dict's keys and shapes; `known` gives what shapes cannot show (norm groups, default fs, ...)."""
        try:
            inferred = _infer(shapes)
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(
                f"These {len(shapes)} tensors are not a video UNet of this family: {error} is missing or misshapen."
            ) from error
        return cls(**{**inferred, **known})


def _infer(shapes: Shapes) -> dict[str, Any]:
    width, in_channels = shapes["input_blocks.0.0.weight"][:2]
    downsamples = sorted(
        int(key.split(".")[1]) for key in shapes if re.fullmatch(r"input_blocks\.\d+\.0\.op\.weight", key)
    )
    last_block = max(int(match[1]) for key in shapes if (match := re.match(r"input_blocks\.(\d+)\.", key)))
    ends = [*downsamples, last_block + 1]
    res_blocks = ends[0] - 1
    first_of_level = [1, *(index + 1 for index in downsamples)]
    mult = [shapes[f"input_blocks.{first}.0.in_layers.2.weight"][0] // width for first in first_of_level]
    attended = [level for level, first in enumerate(first_of_level) if f"input_blocks.{first}.1.norm.weight" in shapes]

    spatial = "middle_block.1.transformer_blocks.{}.attn2.to_k"
    depth = sum(spatial.format(index) + ".weight" in shapes for index in range(64))
    second = spatial.format(0)
    tables = [shape for key, shape in shapes.items() if key.endswith("relative_position_k.embeddings_table")]
    inferred = {
        "in_channels": in_channels,
        "out_channels": shapes["out.2.weight"][0],
        "model_channels": width,
        "channel_mult": tuple(mult),
        "res_blocks": res_blocks,
        "attention_levels": tuple(attended),
        "context_dim": shapes[second + ".weight"][1],
        "depth": depth,
        "temporal_conv": any(".temopral_conv." in key for key in shapes),
        "relative_reach": tables[0][0] // 2 if tables else 0,
        "init_attention": "init_attn.0.norm.weight" in shapes,
        "image_attention": second + "_ip.weight" in shapes,
        "image_scale_learnable": second.removesuffix("to_k") + "alpha" in shapes,
        "fs_condition": "fps_embedding.0.weight" in shapes,
        "guidance_dim": shapes.get("time_cond_proj.weight", (0, 0))[1],
        "motion_dim": shapes.get("motion_cond_proj.weight", (0, 0))[1],
    }
    if inferred["init_attention"]:  # always eight heads
        inferred["head_channels"] = shapes["init_attn.0.proj_in.weight"][0] // 8
    elif tables:
        inferred["head_channels"] = tables[0][1]
    return inferred
