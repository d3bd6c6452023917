"""How guidance changes over a run, and what it may add to a clip."""

from typing import Any

from comfy_api.latest import io

from ..dynamicrafter_core.diffusion.guidance_plan import Limits
from ..dynamicrafter_core.diffusion.projection import Projection
from .host.guidance_plan import set_guidance

PART = {"min": 0.0, "max": 1.0, "step": 0.01}


class DynamiCrafterGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterGuidance",
            display_name="DynamiCrafter Guidance",
            category="DynamiCrafter/sampling",
            description="Changes guidance over the run: scales follow a curve, and outside an interval there is no "
            "guidance and each step is one pass. Projected guidance reduces excess contrast and colour. For "
            "DynamiCrafter Sampler and DynamiCrafter Guider.",
            search_aliases=[
                "cfg schedule",
                "cfg curve",
                "guidance interval",
                "limited interval",
                "dynamic cfg",
                "apg",
                "adaptive projected guidance",
                "oversaturation",
            ],
            inputs=[
                io.Model.Input("model", display_name="model", tooltip="From Load DynamiCrafter."),
                io.String.Input(
                    "text",
                    display_name="text guidance",
                    default="",
                    tooltip="A number, or a curve as shares of the run with their scales, such as 0: 9, 0.5: 7.5, 1: "
                    "3, with straight lines in between. Empty: the sampler's scale.",
                ),
                io.String.Input(
                    "image",
                    display_name="image guidance",
                    default="",
                    tooltip="The same for the image. Empty: the sampler's scale, where -1 means the same as text "
                    "guidance.",
                ),
                io.Float.Input(
                    "start",
                    display_name="guidance start",
                    default=0.0,
                    tooltip="The share of the run at which guidance starts. Before it, each step is a single pass "
                    "with the prompt and image.",
                    **PART,
                ),
                io.Float.Input(
                    "end",
                    display_name="guidance end",
                    default=1.0,
                    tooltip="The share of the run at which guidance ends.",
                    **PART,
                ),
                io.Float.Input(
                    "parallel",
                    display_name="parallel part",
                    default=1.0,
                    tooltip="How much to keep of what guidance adds parallel to the clip itself, which mostly raises "
                    "contrast and colour. 1: all of it, as without projection. 0: none.",
                    **PART,
                ),
                io.Float.Input(
                    "norm",
                    display_name="norm limit",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="The most that guidance may add at a scale of 2, as the root mean square over the "
                    "latents of a clip. 0: no limit.",
                ),
                io.Float.Input(
                    "momentum",
                    display_name="momentum",
                    default=0.0,
                    min=-1.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much the guidance of earlier steps counts in each step. Negative values reduce what "
                    "repeats. 0: not at all.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    "MODEL", display_name="MODEL", tooltip="For DynamiCrafter Sampler or DynamiCrafter Guider."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        text: str,
        image: str,
        start: float,
        end: float,
        parallel: float = 1.0,
        norm: float = 0.0,
        momentum: float = 0.0,
    ) -> io.NodeOutput:
        limits = Limits(start, end, Projection(parallel, norm, momentum))
        return io.NodeOutput(set_guidance(model, text, image, limits))
