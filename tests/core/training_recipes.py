"""A recipe small enough to be trained in a second, for the tests of training."""

import copy
from typing import Any

from dynamicrafter_core.training.recipe import Recipe, parse_recipe

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "family": "dynamicrafter_512",
    "figures": {"width": 16, "height": 16, "frames": 4},
    "model": {
        "autoencoder": {"channels": 8, "channel_mult": [1, 2], "res_blocks": 1, "norm_groups": 4},
        "text": {"width": 8, "layers": 2, "heads": 2, "mlp_width": 16, "embed_dim": 8},
        "vision": {"width": 8, "layers": 1, "heads": 2, "mlp_width": 16, "patch_size": 8, "image_size": 16, "embed_dim": 8},
        "projector": {
            "dim": 8, "depth": 1, "head_channels": 4, "heads": 2, "queries": 2,
            "embedding_dim": 8, "output_dim": 8, "ff_mult": 2, "frames": 4,
        },
        "unet": {
            "model_channels": 8, "channel_mult": [1, 2], "res_blocks": 1, "attention_levels": [0],
            "head_channels": 4, "context_dim": 8, "norm_groups": 4, "dropout": 0.1,
        },
    },
    "data": {"kind": "procedural", "height": 16, "width": 16, "frames": 4, "motions": ["still", "pan_left"], "fs": [2, 4]},
    "log_every": 1,
    "evaluate_every": 1000,
    "evaluate_clips": 2,
    "sample_steps": 1,
    "stages": [
        {"name": "autoencoder", "objective": "autoencoder", "train": ["autoencoder"], "steps": 2, "batch": 2, "frames": 1},
        {"name": "towers", "objective": "towers", "train": ["text", "vision", "projector"], "steps": 2, "batch": 2},
        {
            "name": "projector", "objective": "diffusion", "train": ["projector", "unet.spatial"], "frames": 1,
            "vdg": 0, "steps": 2, "batch": 2,
        },
        {
            "name": "joint", "objective": "diffusion", "train": ["unet", "projector"], "steps": 6, "batch": 4, "micro": 2,
            "reuse": 2, "interpolate": 0.3, "loop": 0.5, "timesteps": {"high_share": 0.5},
        },
    ],
}  # fmt: skip


def small_recipe(**changes: Any) -> Recipe:
    return parse_recipe({**copy.deepcopy(SMALL), **changes})


def only(name: str, **changes: Any) -> Recipe:
    """The small recipe with that stage alone, altered; `dropout_layers` is the UNet's own dropout."""
    stage = next(stage for stage in SMALL["stages"] if stage["name"] == name)
    rest = {
        key: changes.pop(key)
        for key in list(changes)
        if key in SMALL or key in ("precision", "dtype", "lora", "initial", "causal", "grow")
    }
    if "dropout_layers" in changes:
        rest["model"] = copy.deepcopy(SMALL["model"])
        rest["model"]["unet"]["dropout"] = changes.pop("dropout_layers")
    return small_recipe(stages=[{**stage, **changes}], **rest)
