"""How much a clip moves."""

from typing import Any

from comfy_api.latest import io

from ..dynamicrafter_core.models.motion import MANNERS, Motion
from .host.motion import curve, set_motion

LAMBDA = {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.05}
PART = {"min": 0.0, "max": 1.0, "step": 0.01}


class DynamiCrafterMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterMotion",
            display_name="DynamiCrafter Motion",
            category="DynamiCrafter/models",
            description="Changes how much a clip moves and how closely it keeps to its image, with weights inside "
            "the UNet. The defaults change nothing. For any sampler.",
            search_aliases=[
                "motion strength",
                "motion scale",
                "lambda",
                "image weight",
                "cross-frame attention",
                "first frame",
            ],
            inputs=[
                io.Model.Input("model", display_name="model", tooltip="From Load DynamiCrafter."),
                io.Float.Input(
                    "ends",
                    display_name="lambda ends",
                    tooltip="Weight of the image's tokens in the outer half of the layers that see them, multiplied "
                    "by the strength in DynamiCrafter Image Context. Higher values keep closer to the image; lower "
                    "values move more.",
                    **LAMBDA,
                ),
                io.Float.Input(
                    "middle",
                    display_name="lambda middle",
                    tooltip="The same for the middle half of the layers, which hold shapes rather than details.",
                    **LAMBDA,
                ),
                io.Float.Input(
                    "start",
                    display_name="lambda start",
                    default=0.0,
                    tooltip="The share of the run at which these two weights start to count. Before it, they are 1.",
                    **PART,
                ),
                io.Float.Input(
                    "end",
                    display_name="lambda end",
                    default=1.0,
                    tooltip="The share of the run up to which these two weights count. After it, they are 1.",
                    **PART,
                ),
                io.String.Input(
                    "strength",
                    display_name="motion strength",
                    default="1",
                    tooltip="Multiplies what temporal attention adds: above 1, frames influence each other more; "
                    "below 1, less. Several numbers form a curve over the frames, such as 0.5, 1, 1.5.",
                ),
                io.String.Input(
                    "temperature",
                    display_name="motion temperature",
                    default="1",
                    tooltip="Softmax temperature of temporal attention: above 1, each frame attends to all others "
                    "more evenly; below 1, more to the most similar ones. Several numbers form a curve over the "
                    "frames.",
                ),
                io.Float.Input(
                    "first_frame",
                    display_name="first frame",
                    default=0.0,
                    tooltip="How much the pixels of each frame also attend to those of the first frame. 0: not at all.",
                    **PART,
                ),
                io.Combo.Input(
                    "manner",
                    display_name="manner",
                    options=list(MANNERS),
                    default="beside",
                    tooltip="beside: each frame attends to the first frame's keys and values beside its own. "
                    "in-place: they replace its own, which holds the picture more firmly.",
                ),
                io.Boolean.Input(
                    "causal",
                    display_name="causal",
                    default=False,
                    optional=True,
                    tooltip="In temporal attention, each frame sees only itself and the frames before it. For models "
                    "trained this way; other models lose sight of the rest of the clip.",
                ),
            ],
            outputs=[io.Model.Output("MODEL", display_name="MODEL", tooltip="For any sampler.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        ends: float,
        middle: float,
        start: float,
        end: float,
        strength: str,
        temperature: str,
        first_frame: float,
        manner: str,
        causal: bool = False,
    ) -> io.NodeOutput:
        over_time = curve("motion strength", strength), curve("motion temperature", temperature)
        motion = Motion(ends, middle, start, end, *over_time, first_frame, manner, causal)
        return io.NodeOutput(set_motion(model, motion))
