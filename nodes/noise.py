"""What a clip begins with: noise that its frames share, still or along a camera path, or a first clip's low frequencies."""

from typing import Any

from comfy_api.latest import io

from ..dynamicrafter_core.diffusion.noise import ALPHA, CUTOFF, KINDS, SHARE
from ..dynamicrafter_core.diffusion.noise_path import EASINGS
from .host import shared_noise
from .host.feedback import show

SEED = {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF, "control_after_generate": True}
PART = {"min": 0.0, "max": 1.0, "step": 0.01}
PAN = {"default": 0.0, "min": -2.0, "max": 2.0, "step": 0.01}


class DynamiCrafterNoise(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterNoise",
            display_name="DynamiCrafter Noise",
            category="DynamiCrafter/sampling",
            description="Noise that the frames of a clip share in part, so that they flicker less; a camera path "
            "moves the shared part. For the noise input of DynamiCrafter Sampler, or Sampler Custom Advanced.",
            search_aliases=["pyoco", "videofusion", "text2video-zero", "camera", "shared noise", "mixed noise"],
            inputs=[
                io.Int.Input("seed", display_name="seed", tooltip="The same seed gives the same noise.", **SEED),
                io.Combo.Input(
                    "kind",
                    display_name="kind",
                    options=list(KINDS),
                    default="residual",
                    tooltip="plain: frames share nothing, as in training. mixed: all frames share one common part. "
                    "progressive: each frame shares a part with the one before. residual: all frames share a part "
                    "with the middle one.",
                ),
                io.Float.Input(
                    "alpha",
                    display_name="alpha",
                    default=ALPHA,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="For mixed and progressive: how much frames share. 0: nothing, 1: half of the variance, "
                    "10: nearly all.",
                ),
                io.Float.Input(
                    "share",
                    display_name="share",
                    default=SHARE,
                    tooltip="For residual: the fraction of the variance that frames share; 1 makes their noise the "
                    "same.",
                    **PART,
                ),
                io.Float.Input(
                    "pan_x",
                    display_name="pan right",
                    tooltip="How far the camera moves to the right, in picture widths; negative values move left.",
                    **PAN,
                ),
                io.Float.Input(
                    "pan_y",
                    display_name="pan down",
                    tooltip="How far the camera moves down, in picture heights; negative values move up.",
                    **PAN,
                ),
                io.Float.Input(
                    "zoom",
                    display_name="zoom",
                    default=1.0,
                    min=0.25,
                    max=4.0,
                    step=0.01,
                    tooltip="How many times larger things are at the end; below 1, the camera moves away.",
                ),
                io.Float.Input(
                    "turn",
                    display_name="turn",
                    default=0.0,
                    min=-360.0,
                    max=360.0,
                    step=1.0,
                    tooltip="Degrees by which the picture turns clockwise.",
                ),
                io.Float.Input(
                    "start",
                    display_name="path start",
                    default=0.0,
                    tooltip="The share of the clip at which the camera starts to move.",
                    **PART,
                ),
                io.Float.Input(
                    "end",
                    display_name="path end",
                    default=1.0,
                    tooltip="The share of the clip at which the camera stops.",
                    **PART,
                ),
                io.Combo.Input(
                    "easing",
                    display_name="easing",
                    options=list(EASINGS),
                    default="linear",
                    tooltip="linear: constant speed. ease-in: starts slowly. ease-out: ends slowly. ease-in-out: both.",
                ),
                io.Int.Input(
                    "frames",
                    display_name="frames",
                    default=0,
                    min=0,
                    max=256,
                    tooltip="Frames per clip, if the latent holds several clips. 0: the latent is one clip.",
                ),
            ],
            outputs=[
                io.Noise.Output(
                    "NOISE",
                    display_name="NOISE",
                    tooltip="For the noise input of DynamiCrafter Sampler, or Sampler Custom Advanced.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        seed: int,
        kind: str,
        alpha: float,
        share: float,
        pan_x: float,
        pan_y: float,
        zoom: float,
        turn: float,
        start: float,
        end: float,
        easing: str,
        frames: int,
    ) -> io.NodeOutput:
        path = (pan_x, pan_y, zoom, turn, start, end, easing)
        return io.NodeOutput(shared_noise.shared(seed, kind, alpha, share, path, frames))


class DynamiCrafterFreeInit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterFreeInit",
            display_name="DynamiCrafter FreeInit",
            category="DynamiCrafter/sampling",
            description="Noise for making a clip a second time: the low frequencies of the first, which hold its "
            "layout and motion, and new noise for the rest. The second clip is steadier. It needs its own sampler.",
            search_aliases=["freeinit", "reinitialise", "low frequency noise", "temporal consistency"],
            inputs=[
                io.Model.Input("model", display_name="model", tooltip="From Load DynamiCrafter."),
                io.Latent.Input("clip", display_name="clip", tooltip="The first clip, from its sampler."),
                io.Noise.Input(
                    "noise",
                    display_name="noise",
                    tooltip="The noise that the first clip was made from: connect the same node as its sampler.",
                ),
                io.Int.Input("seed", display_name="seed", tooltip="The seed of the new noise.", **SEED),
                io.Float.Input(
                    "cutoff",
                    display_name="cutoff",
                    default=CUTOFF,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Up to which frequency to keep the first clip, as a share of the highest. Higher values "
                    "keep more of it.",
                ),
                io.Int.Input(
                    "start_step",
                    display_name="start step",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="The same as in the second sampler. The 512 and 1024 models need one below 1000, such as "
                    "940: at 1000 they see pure noise, and nothing of the first clip would be left. 0: the model's "
                    "own.",
                ),
            ],
            outputs=[
                io.Noise.Output("NOISE", display_name="NOISE", tooltip="For the noise input of DynamiCrafter Sampler.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: Any, clip: dict, noise: Any, seed: int, cutoff: float, start_step: int) -> io.NodeOutput:
        made = shared_noise.again(model, clip, noise, seed, cutoff, start_step)
        show(cls, f"start step {made.start_step}")
        return io.NodeOutput(made)
