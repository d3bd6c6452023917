"""A camera's views of IMAGE, as IMAGE and MASK."""

import comfy.utils
from torch import Tensor

from ...dynamicrafter_core.camera.path import camera_path
from ...dynamicrafter_core.camera.warp import DepthKind, depth_from_map, render_views
from ...dynamicrafter_core.errors import InputError

LINES = "the lines below"


def fly(
    image: Tensor,
    motion: str,
    lines: str,
    frames: int,
    amount: float,
    easing: str,
    field_of_view: float,
    depth_map: Tensor | None,
    kind: DepthKind,
    depth_range: float,
) -> tuple[Tensor, Tensor]:
    """Views [T,H,W,3], black where nothing is known, and there the mask [T,H,W] is 1."""
    if image.shape[0] != 1:
        raise InputError(f"image holds {image.shape[0]} images, and the camera flies through one: pick one of them.")
    if depth_map is not None and depth_map.shape[0] != 1:
        raise InputError(f"depth_map holds {depth_map.shape[0]} maps for one image: give one.")
    if motion == LINES and not lines.strip():
        raise InputError(
            "The lines of the camera path are empty: write some, such as '1: yaw 10, z 0.2', or choose a motion."
        )
    poses = camera_path(lines if motion == LINES else motion, frames, easing, amount)  # type: ignore[arg-type]
    depth = None if depth_map is None else depth_from_map(depth_map[0, ..., :3].mean(-1), kind, depth_range)
    picture = image[0, ..., :3].movedim(-1, 0).float().cpu()
    bar = comfy.utils.ProgressBar(frames)
    views, known = render_views(picture, poses, depth, field_of_view, black=0.0, on_view=lambda: bar.update(1))
    return views.movedim(1, -1), (~known).float()
