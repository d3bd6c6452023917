"""Where a moving camera looks: the one formula by which scenes are drawn, stills are filmed, and motion is judged."""

from collections.abc import Mapping

import torch
from torch import Tensor


def look(
    change: Mapping[str, Tensor], height: int, width: int, unit: float, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The place in the scene that each pixel shows, in units from its middle: the view's shift, turn and zoom undone.

    `change` holds view_x, view_y, view_turn and view_zoom, each [..., 1, 1]; the places are [..., height, width]. `unit`: pixels to
    a unit.
    """
    x = ((torch.arange(width, device=device) + 0.5) - width / 2) / unit
    y = (((torch.arange(height, device=device) + 0.5) - height / 2) / unit)[:, None]
    x, y = x - change["view_x"], y - change["view_y"]
    cos, sin, zoom = change["view_turn"].cos(), change["view_turn"].sin(), change["view_zoom"].exp()
    return (x * cos + y * sin) / zoom, (y * cos - x * sin) / zoom


def light(pixels: Tensor, change: Mapping[str, Tensor]) -> Tensor:
    """Pixels in 0..1 under the change of `light` and `dark`, which fit them by broadcasting."""
    bright, dark = change["light"].clamp(0, 0.9), change["dark"].clamp(0, 0.9)
    return pixels * (1 - dark) * (1 - bright) + bright
