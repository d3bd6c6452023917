"""Parts of one model in another."""

from comfy_api.latest import io

from ..dynamicrafter_core.checkpoints.merging import Shares
from .host.feedback import show
from .host.merging import merge_parts

SHARE = {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.01}


class DynamiCrafterMergeParts(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterMergeParts",
            display_name="DynamiCrafter Merge Parts",
            category="DynamiCrafter/models",
            description="Mixes parts of a second model into the first: spatial layers, temporal layers and image "
            "projector, each with its own share. The second may be a fine-tune of Stable Diffusion 2.1, whose "
            "spatial layers have the same shape: it provides the style, and the first model the motion. Save the "
            "result with ComfyUI's ModelSave.",
            search_aliases=["merge", "transplant", "model merge", "motion module", "style"],
            inputs=[
                io.Model.Input(
                    "first", display_name="first", tooltip="The model to start from; its variant and settings are kept."
                ),
                io.Model.Input(
                    "second",
                    display_name="second",
                    tooltip="A model of this pack, or of Stable Diffusion 2.1 (spatial only).",
                ),
                io.Float.Input(
                    "spatial",
                    display_name="spatial",
                    tooltip="The second model's share in the layers that see single frames: style and content. 0 "
                    "keeps the first model's, 1 takes the second's.",
                    **SHARE,
                ),
                io.Float.Input(
                    "temporal",
                    display_name="temporal",
                    tooltip="The second model's share in the layers that look across time: motion. An image model "
                    "has none.",
                    **SHARE,
                ),
                io.Float.Input(
                    "projector",
                    display_name="projector",
                    tooltip="The second model's share in the image projector: how the image's content enters beside "
                    "the prompt.",
                    **SHARE,
                ),
            ],
            outputs=[
                io.Model.Output("MODEL", display_name="MODEL", tooltip="The first model with these parts mixed in.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        first: io.Model.Type,
        second: io.Model.Type,
        spatial: float = 0.0,
        temporal: float = 0.0,
        projector: float = 0.0,
    ) -> io.NodeOutput:
        merged, weights = merge_parts(first, second, Shares(spatial, temporal, projector))
        show(cls, f"{weights} weights of the UNet mixed")
        return io.NodeOutput(merged)
