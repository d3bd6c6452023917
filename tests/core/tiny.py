"""Small checkpoints with the key layout of the released ones: same blocks, thin layers, seeded random weights.

The text tower has CLIP's whole vocabulary, so that real prompts go through it.
"""

import json
import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from dynamicrafter_core.checkpoints.fitting import UNUSED_IN_VISION
from dynamicrafter_core.families import FAMILIES, find_family
from dynamicrafter_core.models.parts import PartConfig, shapes_of
from dynamicrafter_core.part_names import PARTS, PREFIXES

CONTEXT = 64  # a head's width: the widths of both towers


def tiny_configs(name: str) -> dict[str, PartConfig]:
    """Part name -> config, of a model a hundredth of the released one's size."""
    family = find_family(name)
    configs: dict[str, PartConfig] = {
        "unet": replace(family.unet, model_channels=32, head_channels=16, context_dim=CONTEXT),
        "autoencoder": replace(family.autoencoder, channels=32),
        "text": replace(family.text, width=CONTEXT, heads=1, layers=2, mlp_width=128, embed_dim=CONTEXT),
    }
    if family.projector is not None and family.vision is not None:
        configs["projector"] = replace(
            family.projector, dim=64, depth=2, heads=2, embedding_dim=CONTEXT, output_dim=CONTEXT
        )
        configs["vision"] = replace(
            family.vision, width=CONTEXT, heads=1, layers=2, mlp_width=128, image_size=28, embed_dim=CONTEXT
        )
    return configs


def tiny_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Key -> shape of the tiny checkpoint's parts, without its weights."""
    configs = tiny_configs(name)
    return {PREFIXES[part] + key: shape for part in configs for key, shape in shapes_of(configs[part]).items()}


@lru_cache(maxsize=4)
def tiny_state(name: str, seed: int = 0) -> dict[str, Tensor]:
    """The whole released checkpoint's keys, fp32; not to be written into."""
    shapes = tiny_shapes(name)
    if PREFIXES["vision"] + "visual.proj" in shapes:  # released files keep the rest of its CLIP beside it
        shapes |= {PREFIXES["vision"] + key: shapes[PREFIXES["text"] + key] for key in UNUSED_IN_VISION}
    generator = torch.Generator().manual_seed(seed)
    state = {key: _random(key, shape, generator) for key, shape in shapes.items()}
    return {**find_family(name).schedule().registered_buffers(), **state}


def _random(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Weights that keep the size of what passes through them; norms near one, biases near zero."""
    value = torch.randn(shape, generator=generator)
    if len(shape) >= 2:
        return value.div_(math.prod(shape[1:]) ** 0.5)
    return value.mul_(0.1).add_(1.0 if shape and key.endswith(".weight") else 0.0)


def tiny_checkpoint(
    path: str | Path,
    name: str = "dynamicrafter_512",
    dtype: torch.dtype = torch.float32,
    container: str = "safetensors",  # or lightning, deepspeed, raw, legacy
    parts: tuple[str, ...] | None = None,
    metadata: dict[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Writes a checkpoint (of some parts, with the stored schedule; by default all) and returns its path.

    `metadata` is the project's own entry, such as {"family": "dynamicrafter_512"}.
    """
    kept = tuple(PREFIXES[part] for part in parts or PARTS)
    buffers = set(FAMILIES["dynamicrafter_512"].schedule().registered_buffers())
    state = {
        key: tensor.contiguous() if key in buffers else tensor.to(dtype).contiguous()
        for key, tensor in tiny_state(name, seed).items()
        if key in buffers or key.startswith(kept)
    }
    path = Path(path)
    match container:
        case "safetensors":
            save_file(state, path, metadata={"dynamicrafter": json.dumps(metadata)} if metadata else None)
        case "lightning":
            torch.save({"epoch": 3, "state_dict": state, **({"dynamicrafter": metadata} if metadata else {})}, path)
        case "deepspeed":
            torch.save({"module": {f"_forward_module.{key}": tensor for key, tensor in state.items()}}, path)
        case "raw":
            torch.save(state, path)
        case "legacy":
            torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)
        case _:
            raise ValueError(container)
    return path
