"""Clips in less time."""

from typing import Any

from comfy_api.latest import io

from ..dynamicrafter_core.diffusion.reuse import PRESETS, Speed
from .host.speed import set_speed


class DynamiCrafterSpeed(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterSpeed",
            display_name="DynamiCrafter Speed",
            category="DynamiCrafter/models",
            description="Makes clips in less time by reusing what changes little from step to step. The clip stays "
            "nearly the same. For any sampler; DynamiCrafter Sampler, Euler, Euler ancestral and LCM gain the most.",
            search_aliases=["fast", "faster", "deepcache", "teacache", "first block cache", "acceleration", "turbo"],
            inputs=[
                io.Model.Input("model", display_name="model", tooltip="From Load DynamiCrafter."),
                io.Combo.Input(
                    "speed",
                    display_name="speed",
                    options=list(PRESETS),
                    default="balanced",
                    tooltip="exact: every step is computed in full. balanced: the network runs in two fifths of the "
                    "steps, and in the second half of the run, every other time, only its outer blocks do. fast: the "
                    "same in one fifth of the steps.",
                ),
            ],
            outputs=[io.Model.Output("MODEL", display_name="MODEL", tooltip="For any sampler.")],
        )

    @classmethod
    def execute(cls, model: Any, speed: str) -> io.NodeOutput:
        return io.NodeOutput(set_speed(model, Speed.read(speed)))
