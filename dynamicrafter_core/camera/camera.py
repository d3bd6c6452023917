"""A camera that flies through a picture: its path, and what is known of the picture's depth."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ..media.images import Fit, fit_image, read_image
from .path import Easing, camera_path
from .warp import DepthKind, check_depth, check_field_of_view, depth_from_map, render_views

if TYPE_CHECKING:
    from ..media.images import ImageSource


@dataclass(frozen=True)
class Camera:
    """`motion`: presets or lines of a pose (see camera/path.py). Without a `depth` map the picture is a plane."""

    motion: str
    depth: "ImageSource | None" = None
    depth_kind: DepthKind = "disparity"
    depth_range: float = 8.0
    field_of_view: float = 55.0
    easing: Easing = "smooth"
    amount: float = 1.0

    def check(self) -> None:
        """Refuses what cannot be flown, before any picture is read."""
        camera_path(self.motion, 2, self.easing, self.amount)
        check_field_of_view(self.field_of_view)
        check_depth(self.depth_kind, self.depth_range)

    def views(self, image: Tensor, frames: int, fit: Fit = "crop") -> tuple[Tensor, Tensor]:
        """Of an image [3,H,W] that was cut to size by `fit`, as the depth map is: views [T,3,H,W], and where each knows."""
        poses = camera_path(self.motion, frames, self.easing, self.amount)
        depth = None
        if self.depth is not None:
            height, width = image.shape[1:]
            depth_map = fit_image(read_image(self.depth), width, height, fit).mean(0)
            depth = depth_from_map(depth_map, self.depth_kind, self.depth_range)
        return render_views(image, poses, depth, self.field_of_view)
