"""What the keys of a checkpoint file belong to: which part of the model, the stored schedule, or nothing we know.

Released files hold all parts under the names of the original classes; pruned files leave parts out; split files hold one part,
mostly without its prefix. Here every key gets its part and its name within it, which is the name the module knows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

PartName = Literal["unet", "projector", "autoencoder", "text", "vision"]

PREFIXES: Mapping[PartName, str] = {  # as released, in released order
    "unet": "model.diffusion_model.",
    "autoencoder": "first_stage_model.",
    "text": "cond_stage_model.model.",
    "vision": "embedder.model.",
    "projector": "image_proj_model.",
}
PARTS = tuple(PREFIXES)

BUFFERS = (  # the schedule, stored beside the parts
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "scale_arr",
)

_OTHER_PREFIXES: Mapping[str, PartName] = {"diffusion_model.": "unet"}  # ComfyUI's saved diffusion models
_RENAMED = {"framestride_embed.": "fps_embedding."}  # as DynamiCrafter 256 stores it

# What training leaves in a file and no model needs: averaged copies, losses, constants that the modules make themselves.
_UNUSED_PREFIXES = ("model_ema.", "first_stage_model.loss.", "loss.")
# The last two are ComfyUI's marks for checkpoints that it detects itself.
_UNUSED = ("lvlb_weights", "logvar", "embedder.mean", "embedder.std", "v_pred", "ztsnr")
_UNUSED_SUFFIXES = (".attn_mask",)

# What ComfyUI's quantised files hold beside a layer's weight: its scales, and their format.
_QUANTISATION = (".scale_weight", ".scale_input", ".weight_scale", ".weight_scale_2", ".input_scale", ".comfy_quant")
_QUANTISED = "scaled_fp8"

_SIGNATURES: Mapping[PartName, tuple[str, ...]] = {  # keys by which a part without prefix is known
    "unet": ("input_blocks.0.0.weight", "time_embed.0.weight"),
    "projector": ("latents", "proj_in.weight"),
    "autoencoder": ("encoder.conv_in.weight", "decoder.conv_in.weight"),
    "text": ("token_embedding.weight", "transformer.resblocks.0.ln_1.weight"),
    "vision": ("visual.conv1.weight", "visual.class_embedding"),
}


@dataclass(frozen=True)
class Naming:
    """Keys as stored, sorted: `parts` maps each part's own names to them."""

    parts: Mapping[PartName, Mapping[str, str]]
    buffers: Mapping[str, str]
    unknown: tuple[str, ...]
    bare: tuple[PartName, ...] = field(default=())  # parts stored without their prefix
    scales: Mapping[PartName, Mapping[str, str]] = field(default_factory=dict)  # of quantised parts, as `parts`


def split_names(keys: Iterable[str]) -> Naming:
    parts: dict[PartName, dict[str, str]] = {}
    buffers: dict[str, str] = {}
    rest: list[str] = []
    prefixes = {**{prefix: part for part, prefix in PREFIXES.items()}, **_OTHER_PREFIXES}
    for key in keys:
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), None)
        if _is_unused(key):
            continue
        if prefix is not None:
            parts.setdefault(prefixes[prefix], {})[_canonical(key.removeprefix(prefix))] = key
        elif key in BUFFERS:
            buffers[key] = key
        else:
            rest.append(key)

    bare = [part for part, signature in _SIGNATURES.items() if part not in parts and set(signature) <= set(rest)]
    if bare == ["text", "vision"]:  # a whole CLIP in open_clip's names
        parts["vision"] = {key: key for key in rest if key.startswith("visual.")}
        parts["text"] = {key: key for key in rest if not key.startswith("visual.")}
        rest = []
    elif len(bare) == 1:
        parts[bare[0]] = {_canonical(key): key for key in rest}
        rest = []
    scales = {part: {key: names.pop(key) for key in list(names) if _is_scale(key)} for part, names in parts.items()}
    return Naming(
        {part: parts[part] for part in PARTS if part in parts},
        buffers,
        tuple(rest),
        tuple(bare),
        {part: names for part, names in scales.items() if names},
    )


def _is_scale(key: str) -> bool:
    return key == _QUANTISED or key.endswith(_QUANTISATION)


def _is_unused(key: str) -> bool:
    return key in _UNUSED or key.startswith(_UNUSED_PREFIXES) or key.endswith(_UNUSED_SUFFIXES)


def _canonical(key: str) -> str:
    for old, new in _RENAMED.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key
