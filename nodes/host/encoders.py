"""A checkpoint's text tower, image tower and autoencoder as the host's own CLIP, CLIP_VISION and VAE."""

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import torch
from comfy.clip_vision import ClipVisionModel
from comfy.model_patcher import ModelPatcher
from comfy.sd1_clip import SD1ClipModel, SDClipModel
from comfy.supported_models_base import ClipTarget
from comfy.text_encoders.sd2_clip import SD2Tokenizer

from ...dynamicrafter_core.checkpoints.checkpoint import Checkpoint
from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.models.encoders import TextTowerConfig, VisionTowerConfig
from ...dynamicrafter_core.part_names import PREFIXES
from .model import FamilyConfig

# Stable Diffusion 2's, which is this family's text encoder: padded with zeros, read one layer before the last.
SPECIAL_TOKENS = {"start": 49406, "end": 49407, "pad": 0}


def load_clip(checkpoint: Checkpoint) -> comfy.sd.CLIP:
    config: TextTowerConfig = checkpoint.configs["text"]
    figures = {
        "hidden_act": "gelu",
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": config.context_length,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "eos_token_id": SPECIAL_TOKENS["end"],
    }
    tower = partial(
        SDClipModel,
        layer="hidden",
        layer_idx=config.layers - 2,
        textmodel_json_config=figures,
        special_tokens=SPECIAL_TOKENS,
    )
    state = {PREFIXES["text"] + key: value for key, value in checkpoint.state_dict("text").items()}
    state = FamilyConfig(checkpoint.family).process_clip_state_dict(state)
    target = ClipTarget(SD2Tokenizer, partial(SD1ClipModel, clip_name="h", clip_model=tower))
    clip = comfy.sd.CLIP(target, parameters=sum(value.numel() for value in state.values()))
    check_loaded("text encoder", *clip.load_sd(state, full_model=True))
    return clip


def load_vision(checkpoint: Checkpoint) -> ClipVisionModel:
    config: VisionTowerConfig = checkpoint.configs["vision"]
    figures = {
        "hidden_act": "gelu",
        "hidden_size": config.width,
        "image_size": config.image_size,
        "intermediate_size": config.mlp_width,
        "layer_norm_eps": 1e-5,
        "model_type": "clip_vision_model",
        "num_attention_heads": config.heads,
        "num_channels": 3,
        "num_hidden_layers": config.layers,
        "patch_size": config.patch_size,
        "projection_dim": config.embed_dim,
    }
    with tempfile.TemporaryDirectory() as folder:  # the oldest host takes the figures from a file only
        path = Path(folder, "config.json")
        path.write_text(json.dumps(figures))
        vision = ClipVisionModel(str(path))
    state = {key: value for key, value in checkpoint.state_dict("vision").items() if key.startswith("visual.")}
    check_loaded("image encoder", *vision.load_sd(comfy.clip_vision.convert_to_transformers(state, "visual.")))
    return vision


class ReferenceVAE(comfy.sd.VAE):
    """ToonCrafter's autoencoder: any node of the host sees the plain one in it; DynamiCrafterDecode sees all of it."""

    reference_patcher: ModelPatcher


def load_vae(checkpoint: Checkpoint) -> comfy.sd.VAE:
    config = checkpoint.configs["autoencoder"]
    figures = {
        "double_z": True,
        "z_channels": config.z_channels,
        "resolution": 256,
        "in_channels": config.in_channels,
        "out_ch": config.out_channels,
        "ch": config.channels,
        "ch_mult": list(config.channel_mult),
        "num_res_blocks": config.res_blocks,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    state = checkpoint.state_dict("autoencoder")
    kind: type[comfy.sd.VAE] = comfy.sd.VAE
    if config.dual_reference:
        kind = ReferenceVAE
        state = {key: value for key, value in state.items() if not is_of_references(key)}
    vae = kind(sd=state, config={"params": {"ddconfig": figures, "embed_dim": config.embed_dim}})
    for norm in vae.first_stage_model.modules():
        if isinstance(norm, torch.nn.GroupNorm):  # the host takes 32 groups for granted
            norm.num_groups = config.norm_groups
    vae.latent_channels = config.embed_dim
    vae.upscale_ratio = vae.downscale_ratio = config.size_factor
    if isinstance(vae, ReferenceVAE):
        offload_device = comfy.model_management.vae_offload_device()
        module = checkpoint.load("autoencoder", device=offload_device, operations=comfy.ops.manual_cast)
        vae.reference_patcher = comfy.model_patcher.CoreModelPatcher(
            module, load_device=vae.device, offload_device=offload_device
        )
    return vae


def is_of_references(key: str) -> bool:
    """Whether an autoencoder's key belongs to what ToonCrafter's has beyond Stable Diffusion's."""
    return any(mark in key for mark in (".mix_factor", ".time_stack.", ".time_mix_conv.", ".attn_refinement."))


def check_loaded(what: str, missing: list[str], unexpected: list[str]) -> None:
    """The core has checked the file against its own towers; this is for a host that has changed its names."""
    if wrong := [key for key in missing if "logit_scale" not in key and "position_ids" not in key]:
        raise InputError(
            f"ComfyUI's {what} did not find {len(wrong)} weights in this file (the first is {wrong[0]}; unexpected: "
            f"{len(unexpected)}): the pack does not support this version of ComfyUI."
        )


def load_encoders(checkpoint: Checkpoint) -> tuple[Any, Any, Any]:
    """CLIP, CLIP_VISION, VAE; None for what the file does not hold, as the host's own checkpoint loader does."""
    loaders = {"text": load_clip, "vision": load_vision, "autoencoder": load_vae}
    return tuple(load(checkpoint) if part in checkpoint.parts else None for part, load in loaders.items())
