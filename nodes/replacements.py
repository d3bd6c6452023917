"""Nodes of older packs that ours stand in for: the host offers the exchange when it opens a workflow that misses them.

An input is mapped only where its meaning carries over; outputs of the same number need no mapping. What the older nodes did in
one (sampling and decoding, say) a person connects anew; what they had no word for gets our default. Sources:
kijai/ComfyUI-DynamiCrafterWrapper, ExponentialML/ComfyUI_Native_DynamiCrafter, chaojie/ComfyUI-DynamiCrafter.
"""

from typing import Any

from comfy_api.latest import ComfyAPI, io


def same(*names: str) -> list[Any]:
    return [{"new_id": name, "old_id": name} for name in names]


def renamed(**names: str) -> list[Any]:
    """new=old"""
    return [{"new_id": new, "old_id": old} for new, old in names.items()]


def fixed(**values: Any) -> list[Any]:
    return [{"new_id": new, "set_value": value} for new, value in values.items()]


LOADED_BY_US = fixed(variant="auto", weight_dtype="default")
KIJAI_I2V_WIDGETS = ["steps", "cfg", "eta", "frames", "seed", "fs", "keep_model_loaded", "vae_dtype"]
KIJAI_TOON_WIDGETS = ["steps", "cfg", "eta", "frames", "seed", "fs", "vae_dtype"]


def replacements() -> list[io.NodeReplace]:
    return [
        # kijai: the checkpoint by name in models/checkpoints; its one output was everything at once.
        io.NodeReplace(
            new_node_id="DynamiCrafterLoad",
            old_node_id="DynamiCrafterModelLoader",
            old_widget_ids=["ckpt_name", "dtype", "fp8_unet"],
            input_mapping=[*renamed(checkpoint="ckpt_name"), *LOADED_BY_US],
        ),
        io.NodeReplace(
            new_node_id="DynamiCrafterLoad",
            old_node_id="DownloadAndLoadDynamiCrafterModel",
            old_widget_ids=["model", "dtype", "fp8_unet"],
            input_mapping=[*renamed(checkpoint="model"), *LOADED_BY_US],
        ),
        # kijai: conditioning, sampling and decoding in one node. Ours samples; its latent goes on to DynamiCrafterDecode.
        *(
            io.NodeReplace(
                new_node_id="DynamiCrafterSampler",
                old_node_id=old,
                old_widget_ids=widgets,
                input_mapping=[
                    *same("model", "positive", "negative", "seed", "steps", "eta"),
                    *renamed(cfg_text="cfg", cfg_image="cfg"),
                    *fixed(spacing="auto", guidance_rescale=-1.0, denoise=1.0),
                ],
            )
            for old, widgets in (
                ("DynamiCrafterI2V", KIJAI_I2V_WIDGETS),
                ("DynamiCrafterBatchInterpolation", KIJAI_I2V_WIDGETS),
                ("ToonCrafterInterpolation", KIJAI_TOON_WIDGETS),
            )
        ),
        io.NodeReplace(
            new_node_id="DynamiCrafterDecode",
            old_node_id="ToonCrafterDecode",
            old_widget_ids=["vae_dtype", "prune_last_frame"],
            input_mapping=same("latent"),
        ),
        # ExponentialML and chaojie share this id; the file of the former is a pruned UNet with its projector.
        io.NodeReplace(
            new_node_id="DynamiCrafterLoadParts",
            old_node_id="DynamiCrafterLoader",
            old_widget_ids=["model_path"],
            input_mapping=[*renamed(unet="model_path"), *fixed(projector="in the same file"), *LOADED_BY_US],
        ),
        # ExponentialML: its MODEL output was the patched input, its first LATENT the empty one.
        io.NodeReplace(
            new_node_id="DynamiCrafterVisualGuidance",
            old_node_id="DynamiCrafterProcessor",
            old_widget_ids=["use_interpolate", "fps", "frames", "scale_latents"],
            input_mapping=[
                *same("vae", "frames"),
                *renamed(image="images", fs="fps"),
                *fixed(mode="animate", width=0, height=0, fit="crop"),
            ],
            output_mapping=[{"new_idx": 2, "old_idx": 1}],
        ),
        # chaojie: prompt, image and sampling in one node; what carries over are the numbers.
        *(
            io.NodeReplace(
                new_node_id="DynamiCrafterSampler",
                old_node_id=old,
                old_widget_ids=["prompt", "steps", "cfg_scale", "eta", "motion", "seed"],
                input_mapping=[
                    *same("model", "seed", "steps", "eta"),
                    *renamed(cfg_text="cfg_scale", cfg_image="cfg_scale"),
                    *fixed(spacing="auto", guidance_rescale=-1.0, denoise=1.0),
                ],
            )
            for old in ("DynamiCrafter Simple", "DynamiCrafterInterp Simple")
        ),
    ]


async def register_replacements() -> None:
    api = ComfyAPI()
    for replacement in replacements():
        await api.node_replacement.register(replacement)
