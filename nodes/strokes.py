"""Things of a picture moved along strokes, and a brush for what may move."""

from typing import Any

from comfy_api.latest import io

from ..dynamicrafter_core.diffusion.noise_path import EASINGS
from ..dynamicrafter_core.strokes.drawing import NOISE, UNTIL
from .host import strokes as host
from .host.feedback import show
from .host.visual_guidance import FITS

PART = {"min": 0.0, "max": 1.0, "step": 0.01}


class DynamiCrafterStrokes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterStrokes",
            display_name="DynamiCrafter Strokes",
            category="DynamiCrafter/conditioning",
            description="Moves things in the image along strokes, or the whole image as a camera sees it, and keeps "
            "still what is not brushed. This crude animation leads the run. Place it between DynamiCrafter Visual "
            "Guidance and any sampler. With nothing drawn, it changes nothing.",
            search_aliases=[
                "motion brush",
                "camera path",
                "drag",
                "trajectory",
                "optical flow",
                "time-to-move",
                "cut and drag",
            ],
            inputs=[
                io.Model.Input("model", display_name="model", tooltip="From Load DynamiCrafter."),
                io.Conditioning.Input(
                    "positive", display_name="positive", tooltip="From DynamiCrafter Visual Guidance."
                ),
                io.Conditioning.Input(
                    "negative", display_name="negative", tooltip="From DynamiCrafter Visual Guidance."
                ),
                io.Latent.Input("latent", display_name="latent", tooltip="From DynamiCrafter Visual Guidance."),
                io.Vae.Input("vae", display_name="vae", tooltip="From Load DynamiCrafter, or Stable Diffusion's."),
                io.Image.Input(
                    "image",
                    display_name="image",
                    tooltip="The same image as in DynamiCrafter Visual Guidance: a single one, of any size.",
                ),
                io.String.Input(
                    "strokes",
                    display_name="strokes",
                    default="",
                    multiline=True,
                    tooltip="Where things go, in pixels of the image from its top left corner: 120,80 -> 180,90. "
                    "More points make a bend, and each line is a stroke. Draw strokes on the image below. Leave this "
                    "empty if you use brush to, flow or camera.",
                ),
                io.Float.Input(
                    "radius",
                    display_name="radius",
                    default=0.0,
                    min=0.0,
                    max=4096.0,
                    step=1.0,
                    tooltip="Without a brush: the radius around the start of a stroke that moves with it, in pixels "
                    "of the image. 0: an eighth of the shorter side.",
                ),
                io.Float.Input(
                    "until",
                    display_name="until",
                    default=UNTIL,
                    tooltip="The share of the run in which the animation leads what moves. Higher values follow the "
                    "strokes more firmly; lower values let the model improve more.",
                    **PART,
                ),
                io.Combo.Input(
                    "easing",
                    display_name="easing",
                    options=list(EASINGS),
                    default="linear",
                    tooltip="linear: constant speed. ease-in: starts slowly. ease-out: ends slowly. ease-in-out: both.",
                ),
                io.Float.Input(
                    "noise_share",
                    display_name="noise share",
                    default=NOISE,
                    tooltip="For the NOISE output: the share of the noise that moves with the animation. 0: none.",
                    **PART,
                ),
                io.Int.Input(
                    "seed",
                    display_name="seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The seed of the NOISE output.",
                ),
                io.Combo.Input(
                    "fit",
                    display_name="image fit",
                    options=list(FITS),
                    default="crop",
                    tooltip="The same as in DynamiCrafter Visual Guidance.",
                ),
                io.Mask.Input(
                    "brush",
                    display_name="brush",
                    optional=True,
                    tooltip="White areas may move, and with strokes they do; everything else stays still. Without "
                    "strokes, the model alone decides how white areas move. Draw it in the mask editor of Load Image.",
                ),
                io.Mask.Input(
                    "brush_to",
                    display_name="brush to",
                    optional=True,
                    tooltip="In place of strokes: where the brushed area ends up. It is moved and scaled from one "
                    "mask to the other.",
                ),
                io.AnyType.Input(
                    "flow",
                    display_name="flow",
                    optional=True,
                    tooltip="In place of strokes: an optical flow from another node, a tensor [T or 1,H,W,2] that "
                    "gives how far each pixel of the image has moved in each frame, or in the last.",
                ),
                io.String.Input(
                    "camera",
                    display_name="camera",
                    default="",
                    optional=True,
                    tooltip="In place of strokes: moves the whole image as a camera sees it, such as pan 0.25 0, "
                    "zoom 1.2, turn 10, from 0, to 1, or any part of that: picture widths to the right and heights "
                    "down, magnification, degrees clockwise, and the share of the clip in which it moves.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    "MODEL", display_name="MODEL", tooltip="For the sampler, which follows the animation as it runs."
                ),
                io.Conditioning.Output(
                    "out_positive", display_name="positive", tooltip="With the detail of what moves."
                ),
                io.Conditioning.Output(
                    "out_negative", display_name="negative", tooltip="With the detail of what moves."
                ),
                io.Latent.Output(
                    "out_latent",
                    display_name="LATENT",
                    tooltip="For the sampler: the frames that lead it, and what stays still.",
                ),
                io.Noise.Output(
                    "NOISE",
                    display_name="NOISE",
                    tooltip="Noise that moves with the animation, for the noise input of DynamiCrafter Sampler or "
                    "Sampler Custom Advanced. Optional.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: list,
        negative: list,
        latent: dict,
        vae: Any,
        image: Any,
        strokes: str,
        radius: float,
        until: float,
        easing: str,
        noise_share: float,
        seed: int,
        fit: str,
        brush: Any = None,
        brush_to: Any = None,
        flow: Any = None,
        camera: str = "",
    ) -> io.NodeOutput:
        drawn = host.read_strokes(strokes, radius, until, noise_share, easing, camera)
        given = model, positive, negative, latent, vae, image, seed, fit
        led = host.lead_along(drawn, *given, brush, brush_to, flow)  # type: ignore[arg-type]
        show(cls, led.note)
        return io.NodeOutput(led.model, led.positive, led.negative, led.latent, led.noise)
