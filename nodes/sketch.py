"""Drawings that a clip follows."""

from typing import Any

from comfy_api.latest import io

from ..dynamicrafter_core.media.images import FITS
from ..dynamicrafter_core.models.sketch import STRENGTH
from ..dynamicrafter_core.pipeline.sketches import BETWEENS, LINES, SketchPlan
from .host import files
from .host.feedback import refuse, show
from .host.sketch import add_drawings

PART = {"min": 0.0, "max": 1.0, "step": 0.01}


class DynamiCrafterSketch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterSketch",
            display_name="DynamiCrafter Sketch",
            category="DynamiCrafter/conditioning",
            description="Line drawings of some frames, which the clip follows, read by ToonCrafter's sketch encoder. "
            "Place it after DynamiCrafter Visual Guidance. For any sampler.",
            search_aliases=["sketch control", "tooncrafter sketch", "controlnet", "line art", "drawing", "inbetween"],
            inputs=[
                io.Conditioning.Input(
                    "positive", display_name="positive", tooltip="From DynamiCrafter Visual Guidance."
                ),
                io.Conditioning.Input(
                    "negative", display_name="negative", tooltip="From DynamiCrafter Visual Guidance."
                ),
                io.Combo.Input(
                    "sketch_encoder",
                    display_name="sketch encoder",
                    options=files.sketch_encoders(),
                    tooltip="ToonCrafter's file, in models/controlnet. Files in models/checkpoints with sketch in "
                    "their name are listed too.",
                ),
                io.Image.Input(
                    "drawings", display_name="drawings", tooltip="A batch with one image for each drawn frame."
                ),
                io.String.Input(
                    "frames",
                    display_name="frames",
                    default="",
                    tooltip="The frame number of each drawing, counted from 0, such as 5, 10. Negative numbers count "
                    "from the end. Empty: the first frames, in order.",
                ),
                io.Float.Input(
                    "strength",
                    display_name="strength",
                    default=STRENGTH,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How closely the clip follows the drawings. 0: not at all.",
                ),
                io.Float.Input(
                    "start",
                    display_name="start",
                    default=0.0,
                    tooltip="The share of the run at which the drawings start to count.",
                    **PART,
                ),
                io.Float.Input(
                    "end",
                    display_name="end",
                    default=1.0,
                    tooltip="The share of the run up to which the drawings count.",
                    **PART,
                ),
                io.Combo.Input(
                    "lines",
                    display_name="lines",
                    options=list(LINES),
                    default=LINES[0],
                    tooltip="dark: dark lines on light paper. light: light lines on a dark background, as edge "
                    "detectors make them.",
                ),
                io.Combo.Input(
                    "between",
                    display_name="between",
                    options=list(BETWEENS),
                    default=BETWEENS[0],
                    tooltip="What frames without a drawing get. blank: an empty drawing, as in the encoder's "
                    "training. free: nothing; the model decides.",
                ),
                io.Combo.Input(
                    "fit",
                    display_name="fit",
                    options=list(FITS),
                    default="crop",
                    tooltip="How drawings of another shape are fitted to the video, like image fit in DynamiCrafter "
                    "Visual Guidance.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("out_positive", display_name="positive", tooltip="With the drawings."),
                io.Conditioning.Output("out_negative", display_name="negative", tooltip="With the drawings."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, sketch_encoder: str) -> bool | str:
        if files.has_sketch_encoder(sketch_encoder):
            return True
        return refuse(cls, files.missing_sketch_encoder(sketch_encoder))

    @classmethod
    def execute(
        cls,
        positive: list,
        negative: list,
        sketch_encoder: str,
        drawings: Any,
        frames: str,
        strength: float,
        start: float,
        end: float,
        lines: str,
        between: str,
        fit: str,
    ) -> io.NodeOutput:
        path = files.find_sketch_encoder(sketch_encoder)
        plan = SketchPlan(strength, start, end, lines, between)
        *made, told = add_drawings(positive, negative, path, drawings, frames, plan, fit)
        show(cls, told)
        return io.NodeOutput(*made)
