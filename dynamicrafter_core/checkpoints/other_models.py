"""Names for the files that people mistake for a checkpoint of this family, so that the refusal says what they gave."""

import re
from collections.abc import Mapping

from ..part_names import PartName, split_names

_MARKS: tuple[tuple[str, str], ...] = (  # pattern found in a key -> what the file is; the first that fits counts
    (r"\.lora_(up|down|A|B)\.|\.lora\.(up|down)\.|^lora_(unet|te)_|\.hada_w1_|\.lokr_w1", "a LoRA"),
    (r"^Expectation_X0$|^Tr_Cov_d$", "the analytic initial noise of the CIL models"),
    (r"(^|\.)input_hint_block\.0\.", "a ControlNet (ToonCrafter's sketch encoder is one)"),
    (r"(^|\.)controlnet_(cond_embedding|down_blocks)\.", "a ControlNet in diffusers' layout"),
    (r"motion_modules\.\d+\.temporal_transformer\.", "an AnimateDiff motion module"),
    (r"txt_in\.individual_token_refiner\.", "a HunyuanVideo model"),
    (r"double_blocks\.0\.img_attn\.", "a Flux model"),
    (r"joint_blocks\.0\.", "a Stable Diffusion 3 model"),
    (r"(^|\.)blocks\.0\.self_attn\.q\.weight$", "a Wan video model"),
    (r"(^|\.)patchify_proj\.", "an LTX video model"),
    (r"(^|\.)(conditioner\.embedders|label_emb)\..*|diffusion_model\.label_emb\.", ""),  # SVD or SDXL: see below
    (r"diffusion_model\.input_blocks\.0\.1\.", "a ModelScope text-to-video model"),
    (r"^(unet\.)?down_blocks\.\d+\.(attentions|resnets)\.", "a UNet in diffusers' layout"),
    (r"encoder\.block\.0\.layer\.0\.SelfAttention\.", "a T5 text encoder"),
    (
        r"^(transformer\.)?(text|vision)_model\.encoder\.layers\.0\.",
        "a CLIP in Hugging Face's layout (open_clip's file of the same model fits)",
    ),
)
_CONTEXTS = {
    768: "a Stable Diffusion 1.x checkpoint",
    1024: "a Stable Diffusion 2.x checkpoint",
    2048: "an SDXL checkpoint",
}
_ALONE: Mapping[PartName, str] = {
    "projector": "an image projector alone",
    "autoencoder": "an autoencoder (VAE) alone",
    "text": "a CLIP text tower alone",
    "vision": "a CLIP image tower alone",
}


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What a file is by a key that no file of this family has, in words."""
    for pattern, words in _MARKS:
        if any(re.search(pattern, key) for key in shapes):
            if words:
                return words
            temporal = any(".time_stack." in key or ".time_pos_embed." in key for key in shapes)
            return "a Stable Video Diffusion checkpoint" if temporal else "an SDXL checkpoint"
    return None


def name_other_model(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What a file without a video UNet of this family is, in words."""
    if words := recognise(shapes):
        return words
    parts = split_names(shapes).parts
    if "unet" in parts:
        width = next(
            (shapes[key][-1] for name, key in parts["unet"].items() if name.endswith("attn2.to_k.weight")), None
        )
        return _CONTEXTS.get(width or 0, "an image diffusion model")
    if len(parts) > 1:
        return f"a file of {', '.join(parts)} without a UNet"
    if parts:
        return _ALONE[next(iter(parts))]
    return f"a file of {len(shapes)} tensors of no kind known here (one is {next(iter(shapes), 'none')})"
