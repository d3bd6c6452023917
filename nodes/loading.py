"""From files to MODEL, CLIP, CLIP_VISION and VAE."""

from typing import Any

from comfy_api.latest import io

from ..dynamicrafter_core.families import FAMILIES, FINE_TUNES, Family
from .host import files, loading
from .host.feedback import refuse, show

# In the order in which the pack came to know them.
DISTILLED = [name for name, family in FAMILIES.items() if family.consistency]
VIEWCRAFTER = [name for name, family in FINE_TUNES.items() if "fly" in family.modes]
FIRST = [name for name in (*FAMILIES, *FINE_TUNES) if name not in (*DISTILLED, *VIEWCRAFTER)]
VARIANTS = ["auto", *FIRST, *DISTILLED, *VIEWCRAFTER]

VARIANT = {
    "options": VARIANTS,
    "default": "auto",
    "tooltip": "Which released model the file is. 'auto' looks at the file's structure, its stored noise schedule, "
    "its metadata and its name; choose it yourself for pruned files, where 512, 1024 and interpolation look "
    "alike.",
}
WEIGHT_DTYPE = {
    "options": list(loading.WEIGHT_DTYPES),
    "default": "default",
    "tooltip": "The data type in which the UNet's weights are stored. 'default' follows the file and the graphics "
    "card; fp8 halves the memory at a small loss of quality, and '_fast' also computes in fp8 on cards that "
    "support it.",
}
FS = {
    "default": 0,
    "min": 0,
    "max": 100,
    "optional": True,
    "tooltip": "How fast things move, mainly for text-to-video models, where no later node sets it: frames per "
    "second, and smaller values move more. 0: the model's own default. A value in DynamiCrafter Visual Guidance "
    "takes precedence.",
}


class DynamiCrafterLoad(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterLoad",
            display_name="Load DynamiCrafter",
            category="DynamiCrafter/loaders",
            description="Loads a whole checkpoint of DynamiCrafter, ToonCrafter or VideoCrafter. The outputs are ComfyUI's "
            "own types: LoRA loaders, samplers and VAE nodes work on them. Outputs for parts that the file does not contain stay empty.",
            search_aliases=["dynamicrafter loader", "videocrafter", "tooncrafter", "image to video checkpoint"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    display_name="checkpoint",
                    options=files.checkpoints(),
                    tooltip="A file in models/checkpoints, or 'embedded': the small model that comes with this pack.",
                ),
                io.Combo.Input("variant", display_name="variant", **VARIANT),
                io.Combo.Input("weight_dtype", display_name="weight dtype", **WEIGHT_DTYPE),
                io.Int.Input("fs", display_name="motion (fs)", **FS),
            ],
            outputs=[
                io.Model.Output("MODEL", display_name="MODEL", tooltip="The video UNet, with the image projector."),
                io.Clip.Output("CLIP", display_name="CLIP", tooltip="The text encoder, for 'CLIP Text Encode'."),
                io.ClipVision.Output(
                    "CLIP_VISION",
                    display_name="CLIP_VISION",
                    tooltip="The image encoder, for 'DynamiCrafter Image Context'.",
                ),
                io.Vae.Output("VAE", display_name="VAE", tooltip="Frames to latents and back."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str) -> bool | str:
        if checkpoint in files.checkpoints():
            return True
        return refuse(cls, files.missing(checkpoint, ("checkpoints",)))

    @classmethod
    def execute(cls, checkpoint: str, variant: str, weight_dtype: str, fs: int = 0) -> io.NodeOutput:
        path = files.embedded_path() if checkpoint == files.EMBEDDED else files.find(checkpoint, ("checkpoints",))
        loaded = loading.load_all(path, variant, weight_dtype, fs)
        show(cls, describe(loaded.family, loaded.evidence))
        return io.NodeOutput(loaded.model, loaded.clip, loaded.vision, loaded.vae)


class DynamiCrafterLoadParts(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterLoadParts",
            display_name="Load DynamiCrafter Parts",
            category="DynamiCrafter/loaders",
            description="Loads the UNet of a pruned or split release, with its image projector from the same file or "
            "a separate one. CLIP, CLIP vision and VAE come from ComfyUI's own loaders: Stable Diffusion 2.1's text "
            "encoder (type stable_diffusion), CLIP-ViT-H-14-laion2B, vae-ft-mse-840000.",
            search_aliases=["dynamicrafter pruned", "dynamicrafter unet", "image projector"],
            inputs=[
                io.Combo.Input(
                    "unet",
                    display_name="unet",
                    options=files.parts(),
                    tooltip="A file in models/diffusion_models or models/checkpoints that holds the UNet.",
                ),
                io.Combo.Input(
                    "projector",
                    display_name="image projector",
                    options=[files.IN_THE_SAME_FILE, *files.parts()],
                    default=files.IN_THE_SAME_FILE,
                    tooltip="Where the image projector (image_proj_model) is. Text-to-video models have none.",
                ),
                io.Combo.Input("variant", display_name="variant", **VARIANT),
                io.Combo.Input("weight_dtype", display_name="weight dtype", **WEIGHT_DTYPE),
                io.Int.Input("fs", display_name="motion (fs)", **FS),
            ],
            outputs=[
                io.Model.Output(
                    "MODEL",
                    display_name="MODEL",
                    tooltip="The video UNet, with the image projector where there is one.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, unet: str, projector: str) -> bool | str:
        for name in (unet, projector):
            if name not in (files.IN_THE_SAME_FILE, *files.parts()):
                return refuse(cls, files.missing(name, files.PART_FOLDERS))
        return True

    @classmethod
    def execute(cls, unet: str, projector: str, variant: str, weight_dtype: str, fs: int = 0) -> io.NodeOutput:
        beside = None if projector == files.IN_THE_SAME_FILE else files.find(projector, files.PART_FOLDERS)
        model = loading.load_model(files.find(unet, files.PART_FOLDERS), variant, weight_dtype, beside, fs)
        show(cls, describe(loading.family_of(model, "DynamiCrafterLoadParts")))
        return io.NodeOutput(model)


def describe(family: Family, evidence: Any = ()) -> str:
    """The loaded variant in a few lines: its size, what it does, and what fs means to it."""
    lines = [f"{family.title} ({family.name})", f"{family.width}x{family.height}, {', '.join(family.modes)}"]
    if family.fs_meaning and family.fs_range:
        more = "larger" if family.fs_larger_moves_more else "smaller"
        low, high = family.fs_range
        lines.append(f"fs: {family.fs_meaning}, {low} to {high}, default {family.fs_default}; {more} moves more")
    return "\n".join([*lines, *evidence])
