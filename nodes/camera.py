"""A camera that flies through a picture."""

from typing import Any

from comfy_api.latest import io

from ..dynamicrafter_core.camera.path import EASINGS, PRESETS
from ..dynamicrafter_core.camera.warp import DEPTH_KINDS
from .host import camera
from .host.feedback import show


class DynamiCrafterCameraPath(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DynamiCrafterCameraPath",
            display_name="DynamiCrafter Camera Path",
            category="DynamiCrafter/conditioning",
            description="Renders what a moving camera sees of an image: a guide video for DynamiCrafter Visual "
            "Guidance, black where nothing is known. With a depth map from any depth node, near things move further; "
            "without one, the image is a flat plane.",
            search_aliases=["camera control", "viewcrafter", "orbit", "dolly", "depth warp", "novel view"],
            inputs=[
                io.Image.Input("image", display_name="image", tooltip="The image that the camera starts from."),
                io.Combo.Input(
                    "motion",
                    display_name="motion",
                    options=[*PRESETS, camera.LINES],
                    default="orbit left",
                    tooltip="How the camera moves. An orbit circles the centre of the scene and keeps looking at it.",
                ),
                io.Float.Input(
                    "amount",
                    display_name="amount",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How far the camera goes, as a multiple of the motion. Negative values reverse it.",
                ),
                io.Int.Input(
                    "frames",
                    display_name="frames",
                    default=25,
                    min=1,
                    max=1024,
                    tooltip="The number of frames in the video: 25 for ViewCrafter 25, 16 for ViewCrafter 16 and the "
                    "other models.",
                ),
                io.Combo.Input(
                    "easing",
                    display_name="easing",
                    options=list(EASINGS),
                    default="smooth",
                    tooltip="smooth starts and ends slowly, linear keeps a constant speed, in starts slowly, out "
                    "ends slowly.",
                ),
                io.Float.Input(
                    "field_of_view",
                    display_name="field of view",
                    default=55.0,
                    min=1.0,
                    max=170.0,
                    step=1.0,
                    tooltip="The angle of view across the image's longer side, in degrees: about 55 for most photos, "
                    "30 for a telephoto lens, 90 for a wide one.",
                ),
                io.String.Input(
                    "lines",
                    display_name="lines",
                    default="0.5: yaw 10\n1: yaw 10, z 0.3",
                    multiline=True,
                    tooltip="For motion 'the lines below'. Each line has a time from 0 to 1, then yaw, pitch, roll "
                    "in degrees or x (right), y (up), z (forward) in units of the distance to the scene. Values that "
                    "a line leaves out stay as they were.",
                ),
                io.Image.Input(
                    "depth_map",
                    display_name="depth map",
                    optional=True,
                    tooltip="A depth map of the same image, from any depth node. Without it, the image is a flat "
                    "plane.",
                ),
                io.Combo.Input(
                    "depth_kind",
                    display_name="depth kind",
                    options=list(DEPTH_KINDS),
                    default="disparity",
                    optional=True,
                    tooltip="disparity: white is near, as in most depth nodes. distance: white is far.",
                ),
                io.Float.Input(
                    "depth_range",
                    display_name="depth range",
                    default=8.0,
                    min=1.0,
                    max=1000.0,
                    step=0.5,
                    optional=True,
                    tooltip="How many times farther away the farthest point is than the nearest; a depth map does "
                    "not say. Higher values make the scene deeper.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "guide",
                    display_name="IMAGE",
                    tooltip="The rendered views, for the guide video input of DynamiCrafter Visual Guidance.",
                ),
                io.Mask.Output("unknown", display_name="MASK", tooltip="White where nothing is known."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        image: Any,
        motion: str,
        amount: float,
        frames: int,
        easing: str,
        field_of_view: float,
        lines: str,
        depth_map: Any = None,
        depth_kind: str = "disparity",
        depth_range: float = 8.0,
    ) -> io.NodeOutput:
        views, unknown = camera.fly(
            image,
            motion,
            lines,
            frames,
            amount,
            easing,
            field_of_view,
            depth_map,
            depth_kind,  # type: ignore[arg-type]
            depth_range,
        )
        show(cls, f"{frames} views; {100 * unknown[-1].mean():.0f} % of the last one is unknown")
        return io.NodeOutput(views, unknown)
