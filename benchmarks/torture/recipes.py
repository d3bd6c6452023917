"""Recipes of training: JSON that is wrong in its structure, its names and its values, up to the model it would train."""

import contextlib
import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from dynamicrafter_core.models import parts
from dynamicrafter_core.training import model
from dynamicrafter_core.training.recipe import parse_recipe, read_recipe
from dynamicrafter_core.training.sources import make_source
from dynamicrafter_core.training.trainer import Trainer

from .mutation import altered, damaged
from .stubs import Accepted
from .surface import Room, Surface

RIGHT: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "family": "dynamicrafter_512",
    "figures": {"width": 16, "height": 16, "frames": 4},
    "model": {
        "autoencoder": {"channels": 8, "channel_mult": [1, 2], "res_blocks": 1, "norm_groups": 4},
        "text": {"width": 8, "layers": 2, "heads": 2, "mlp_width": 16, "embed_dim": 8},
        "vision": {
            "width": 8,
            "layers": 1,
            "heads": 2,
            "mlp_width": 16,
            "patch_size": 8,
            "image_size": 16,
            "embed_dim": 8,
        },
        "projector": {
            "dim": 8,
            "depth": 1,
            "head_channels": 4,
            "heads": 2,
            "queries": 2,
            "embedding_dim": 8,
            "output_dim": 8,
            "ff_mult": 2,
            "frames": 4,
        },
        "unet": {
            "model_channels": 8,
            "channel_mult": [1, 2],
            "res_blocks": 1,
            "attention_levels": [0],
            "head_channels": 4,
            "context_dim": 8,
            "norm_groups": 4,
        },
    },
    "data": {
        "kind": "procedural",
        "height": 16,
        "width": 16,
        "frames": 4,
        "motions": ["still", "pan_left"],
        "fs": [2, 4],
    },
    "precision": "fp32",
    "dtype": "fp16",
    "log_every": 1,
    "stages": [
        {
            "name": "autoencoder",
            "objective": "autoencoder",
            "train": ["autoencoder"],
            "steps": 2,
            "batch": 2,
            "frames": 1,
        },
        {
            "name": "joint",
            "objective": "diffusion",
            "train": ["unet", "projector"],
            "steps": 6,
            "batch": 4,
            "micro": 2,
            "timesteps": {"high_share": 0.5},
        },
    ],
}


def make_recipe(chance: Random, room: Room) -> Callable[[], object]:
    right = copy.deepcopy(RIGHT)
    if chance.random() < 0.2:
        right["lora"] = {"rank": 2, "alpha": 2, "layers": ["spatial"]}
    recipe = altered(right, chance)
    content = json.dumps(recipe).encode()
    path = room.given / "recipe.json"
    path.write_bytes(damaged(content, chance) if chance.random() < 0.1 else content)

    def attempt() -> None:
        read = read_recipe(path)
        for stage in read.stages:
            make_source({**read.data, **stage.data}, read.seed, torch.device("cpu"))
        with patch.object(model, "build", small_alone), contextlib.suppress(Accepted):
            Trainer(read, room.out / "run", "cpu")

    return attempt


def small_alone(config: Any, dtype: Any = None, device: Any = None) -> nn.Module:
    """A large model is accepted, and not made."""
    made = parts.build(config, dtype, "meta")
    if device != "meta" and sum(each.numel() for each in made.parameters()) > 3 * 10**7:
        raise Accepted
    return parts.build(config, dtype, device)


def prepare() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Trainer(parse_recipe(copy.deepcopy(RIGHT)), Path(folder) / "run", "cpu")


RECIPES = Surface("recipes", "training recipes: wrong structure, names and values", make_recipe, prepare)
