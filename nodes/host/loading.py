"""Files to the host's objects: MODEL with its projector, CLIP, CLIP_VISION and VAE, all under the host's memory management."""

from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...dynamicrafter_core.checkpoints.checkpoint import Checkpoint, load_checkpoint
from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.families import Family
from .encoders import load_encoders
from .host_guidance import guide_whole_clips
from .model import FamilyConfig, FamilyModel
from .preview import show_clip

PROJECTOR = "dynamicrafter_projector"
PREVIEW = "dynamicrafter_preview"
PER_CLIP = "dynamicrafter_per_clip"

WEIGHT_DTYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "fp16": {"dtype": torch.float16},
    "bf16": {"dtype": torch.bfloat16},
    "fp32": {"dtype": torch.float32},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}


def own_family(checkpoint: Checkpoint, fs: int = 0) -> Family:
    """The variant's record with the layer widths of this file, which may be smaller than the released ones.

    `fs` takes the place of the variant's own, for prompts that no node gives another.
    """
    family = replace(checkpoint.family, **checkpoint.configs)
    if not fs:
        return family
    if family.fs_default is None:
        raise InputError(
            f"motion (fs) is {fs}, and {family.title} is not conditioned on it: leave it at 0, or load another variant."
        )
    return replace(family, fs_default=fs)


def load_model(
    path: str,
    variant: str = "auto",
    weight_dtype: str = "default",
    projector_path: str | None = None,
    fs: int = 0,
    disable_dynamic: bool = False,
) -> ModelPatcher:
    """The host calls this again, with `disable_dynamic`, when it needs a second copy of the weights (training, hooks)."""
    checkpoint = load_checkpoint(path, variant, extra=[projector_path] if projector_path else [])
    if "unet" not in checkpoint.parts:
        raise InputError(f"{path} holds {', '.join(checkpoint.parts)} and no UNet: choose a file that holds one.")
    patcher = patch_model(checkpoint, own_family(checkpoint, fs), WEIGHT_DTYPES[weight_dtype], disable_dynamic)
    patcher.cached_patcher_init = (load_model, (path, variant, weight_dtype, projector_path, fs))
    return patcher


def patch_model(checkpoint: Checkpoint, family: Family, options: dict[str, Any], disable_dynamic: bool) -> ModelPatcher:
    metadata = dict(checkpoint.sources["unet"].opened.metadata)
    state = {**checkpoint.state_dict("unet"), **checkpoint.scales("unet")}
    state, _ = comfy.utils.convert_old_quants(state, "", metadata)
    config = FamilyConfig(family)
    config.quant_config = comfy.utils.detect_layer_quantization(state, "")
    set_dtypes(config, state, options)
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()

    projector = load_projector(checkpoint)
    model = FamilyModel(config, family, None if projector is None else projector.model)
    make = ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = make(model, load_device=load_device, offload_device=offload_device)
    if not comfy.model_management.is_device_cpu(offload_device):
        model.to(offload_device)
    model.load_model_weights(state, "", assign=patcher.is_dynamic())
    if projector is not None:
        patcher.set_attachments(PROJECTOR, projector)
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, PREVIEW, show_clip)
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, PER_CLIP, guide_whole_clips)
    return patcher


def set_dtypes(config: FamilyConfig, state: dict[str, Tensor], options: dict[str, Any]) -> None:
    """In which type the weights are kept and in which they work, as the host's own loader decides it."""
    supported = list(config.supported_inference_dtypes)
    dtype = options.get("dtype")
    if dtype is None:
        stored = None if config.quant_config else comfy.utils.weight_dtype(state)
        size = comfy.utils.calculate_parameters(state)
        dtype = comfy.model_management.unet_dtype(model_params=size, supported_dtypes=supported, weight_dtype=stored)
    kept = None if config.quant_config else dtype
    cast = comfy.model_management.unet_manual_cast(kept, comfy.model_management.get_torch_device(), supported)
    config.set_inference_dtype(dtype, cast)
    config.optimizations["fp8"] = options.get("fp8_optimizations", False)


def load_projector(checkpoint: Checkpoint) -> ModelPatcher | None:
    if "projector" not in checkpoint.parts:
        return None
    offload_device = comfy.model_management.unet_offload_device()
    # Its 50 million weights work in single precision: they make the context once for a whole video.
    module = checkpoint.load("projector", device=offload_device, operations=comfy.ops.manual_cast)
    return comfy.model_patcher.CoreModelPatcher(
        module, load_device=comfy.model_management.get_torch_device(), offload_device=offload_device
    )


def projector_of(model: ModelPatcher) -> ModelPatcher | None:
    return model.get_attachment(PROJECTOR)


def family_of(model: ModelPatcher, node: str) -> Family:
    """The variant of a MODEL of this pack; any other is refused by its name."""
    inner = model.model
    if not isinstance(inner, FamilyModel):
        raise InputError(
            f"{node} needs a MODEL of this pack, and this one is a {type(inner).__name__}: connect DynamiCrafterLoad or "
            "DynamiCrafterLoadParts."
        )
    return inner.family


@dataclass(frozen=True)
class Loaded:
    """A whole checkpoint; None for what it does not hold, as the host's own loader gives it."""

    model: ModelPatcher
    clip: Any
    vision: Any
    vae: Any
    family: Family
    evidence: tuple[str, ...]  # how the variant was told, in sentences


def load_all(path: str, variant: str, weight_dtype: str, fs: int = 0) -> Loaded:
    checkpoint = load_checkpoint(path, variant)
    model = load_model(path, variant, weight_dtype, fs=fs)
    evidence = checkpoint.detection.evidence if checkpoint.detection.ambiguous else ()
    return Loaded(model, *load_encoders(checkpoint), model.model.family, evidence)
