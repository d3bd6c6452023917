"""Clips longer than a model was trained on."""

from typing import Any

from comfy_api.latest import io

from ..dynamicrafter_core.diffusion.windows import FUSES, Windows
from .host.windows import set_windows


class DynamiCrafterWindows(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterWindows",
            display_name="DynamiCrafter Windows",
            category="DynamiCrafter/models",
            description="Makes clips of any length: the model sees overlapping windows of the clip, which are "
            "averaged in every step. Memory use stays that of one window. For any sampler.",
            search_aliases=["long video", "context windows", "endless", "freenoise", "sliding window", "longer"],
            inputs=[
                io.Model.Input("model", display_name="model", tooltip="From Load DynamiCrafter."),
                io.Int.Input(
                    "window",
                    display_name="window",
                    default=16,
                    min=2,
                    max=64,
                    tooltip="How many frames the model sees at once. The models were trained on 16 (ViewCrafter: 25).",
                ),
                io.Int.Input(
                    "overlap",
                    display_name="overlap",
                    default=4,
                    min=0,
                    max=63,
                    tooltip="How many frames two neighbouring windows share. More of them hide the seams better and "
                    "take longer.",
                ),
                io.Combo.Input(
                    "fuse",
                    display_name="fuse",
                    options=list(FUSES),
                    default="pyramid",
                    tooltip="How shared frames are averaged. pyramid: the middle of a window counts most. flat: all "
                    "frames count equally. overlap-linear: one window fades into the next.",
                ),
                io.Boolean.Input(
                    "closed_loop",
                    display_name="closed loop",
                    default=False,
                    tooltip="Windows continue from the last frame to the first, so that the clip can play in an "
                    "endless loop.",
                ),
                io.Int.Input(
                    "stride",
                    display_name="stride",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="2: adds windows of every second frame; 4: of every fourth as well. They hold distant "
                    "frames together, and each doubling takes as long again.",
                ),
                io.Boolean.Input(
                    "freenoise",
                    display_name="shuffled noise (freenoise)",
                    default=False,
                    tooltip="All windows start from the same noise in a different order, so that they show the same "
                    "things.",
                ),
            ],
            outputs=[io.Model.Output("MODEL", display_name="MODEL", tooltip="For any sampler.")],
        )

    @classmethod
    def execute(
        cls, model: Any, window: int, overlap: int, fuse: str, closed_loop: bool, stride: int, freenoise: bool
    ) -> io.NodeOutput:
        return io.NodeOutput(set_windows(model, Windows(window, overlap, fuse, closed_loop, stride, freenoise)))
