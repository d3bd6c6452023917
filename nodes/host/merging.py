"""Parts of one MODEL in another, as the host merges models: by patches of the weights, so that nothing is copied until it is sampled."""

from copy import deepcopy
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...dynamicrafter_core.checkpoints.merging import FIRST_CONV, Shares
from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.models.layer_kinds import image_model_keys, temporal_keys
from .loading import PROJECTOR, family_of, projector_of
from .model import FamilyModel

NODE = "DynamiCrafterMergeParts"
PREFIX = "diffusion_model."


def merge_parts(first: ModelPatcher, second: ModelPatcher, shares: Shares) -> tuple[ModelPatcher, int]:
    """The first MODEL with shares of the second, and how many of the UNet's weights come from both."""
    family_of(first, NODE)
    shares.check()
    merged = first.clone()
    changed = mix_unets(merged, second, shares) if shares.spatial or shares.temporal else 0
    if shares.projector:
        mix_projectors(merged, second, shares.projector)
    return merged, changed


def mix_unets(merged: ModelPatcher, second: ModelPatcher, shares: Shares) -> int:
    unet = merged.model.diffusion_model
    over_time = temporal_keys(unet)
    weights = second.get_key_patches(PREFIX)
    names = names_in(second, unet, weights)
    if shares.temporal and not over_time & names.keys():
        raise InputError(f"The second MODEL is a {kind(second)} without temporal layers: set temporal to 0.")
    own, changed = unet.state_dict(), 0
    for key, name in names.items():
        share = shares.temporal if key in over_time else shares.spatial
        if share:
            where, weight = fit(key, own[key], weights[PREFIX + name])
            changed += len(merged.add_patches({where: weight}, share, 1 - share))
    return changed


def names_in(second: ModelPatcher, unet: Any, weights: dict[str, Any]) -> dict[str, str]:
    """Keys of the first UNet -> those of the second one, where it has them."""
    if isinstance(second.model, FamilyModel):
        return {key: key for key in unet.state_dict() if PREFIX + key in weights}
    names = image_model_keys(unet)
    if any(PREFIX + name not in weights for name in names.values()):
        raise InputError(
            f"The second MODEL is a {kind(second)}: connect a MODEL of this pack, or one of Stable Diffusion 2.1."
        )
    return names


def kind(model: ModelPatcher) -> str:
    config = getattr(model.model, "model_config", None)
    return type(config or model.model).__name__


def fit(key: str, own: Tensor, weight: list[Any]) -> tuple[Any, list[Any]]:
    """Where the weight goes, and the weight: of two first convolutions, the input channels that both have."""
    (other, convert), *patches = weight
    if other.shape == own.shape:
        return PREFIX + key, weight
    if key != FIRST_CONV or other.shape[::2] != own.shape[::2]:
        raise InputError(
            f"The second MODEL does not fit the first: {key} has the shape {list(other.shape)} instead of "
            f"{list(own.shape)}; merge models of the same sizes."
        )
    both = min(other.shape[1], own.shape[1])
    return (PREFIX + key, (1, 0, both)), [(other[:, :both], convert), *patches]


def mix_projectors(merged: ModelPatcher, second: ModelPatcher, share: float) -> None:
    """A projector of its own for the merged MODEL: the host does not move it with the UNet's weights, but saves it with them."""
    family_of(second, NODE)
    own, other = projector_of(merged), projector_of(second)
    if own is None or other is None:
        which = "first" if own is None else "second"
        raise InputError(f"The {which} MODEL has no image projector: set projector to 0.")
    module = deepcopy(own.model)
    state = other.model.state_dict()
    if {key: value.shape for key, value in state.items()} != {
        key: value.shape for key, value in module.state_dict().items()
    }:
        raise InputError("The projectors of the two MODELs have different sizes: set projector to 0.")
    with torch.no_grad():
        for key, value in module.state_dict().items():
            value.lerp_(state[key].to(value), share)
    merged.set_attachments(PROJECTOR, type(own)(module, own.load_device, own.offload_device))
    merged.add_object_patch("saved_beside", (module,))
