"""A camera path, and noise that moves along it (Text2Video-Zero, Khachatryan et al. 2023, moves its first latents so).

To move noise by interpolation would blur it and lower its variance. Here every value is first split into 4 x 4 finer ones,
which are white noise again and sum to it (integral noise, Chang et al. 2024, "How I Warped Your Noise"). The finer values
are moved to the nearest place and summed, so that each frame is white noise of variance 1, and a move by whole pixels is exact.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..checks import check_number
from ..errors import InputError

Easing = Literal["linear", "ease-in", "ease-out", "ease-in-out"]
EASINGS: tuple[Easing, ...] = get_args(Easing)
FINER = 4  # parts of a value's side


@dataclass(frozen=True)
class NoisePath:
    """Where the camera is at the end of its path; in the first frame it stands at 0, 0 and does not zoom or turn."""

    pan_x: float = 0.0  # to the right, in widths of the picture: what is seen moves to the left
    pan_y: float = 0.0  # down, in heights
    zoom: float = 1.0  # how many times larger things become
    turn: float = 0.0  # degrees that the picture turns clockwise
    start: float = 0.0  # shares of the clip between which the camera moves
    end: float = 1.0
    easing: Easing = "linear"

    def __post_init__(self) -> None:
        check_number("the camera's pan to the right", self.pan_x, -2, 2)
        check_number("the camera's pan down", self.pan_y, -2, 2)
        check_number("the camera's zoom", self.zoom, 0.25, 4)
        check_number("the camera's turn", self.turn, -360, 360)
        check_number("the start of the camera's path", self.start, 0, 1)
        check_number("the end of the camera's path", self.end, 0, 1)
        if self.end <= self.start:
            raise InputError(
                f"The camera's path starts at {self.start:g} and ends at {self.end:g}; the end must come later."
            )
        if self.easing not in EASINGS:
            raise InputError(f"The camera's easing is {self.easing!r}; give one of {', '.join(EASINGS)}.")

    @classmethod
    def read(cls, text: str) -> "NoisePath":
        """ "pan 0.25 0, zoom 1.2, turn 10, from 0.2, to 0.8, ease-in-out", of which any part may be left out."""
        names = {"pan": ("pan_x", "pan_y"), "zoom": ("zoom",), "turn": ("turn",), "from": ("start",), "to": ("end",)}
        given: dict[str, float | str] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            word, *values = part.split()
            if word in EASINGS and not values:
                given["easing"] = word
                continue
            try:
                given.update(zip(names[word], map(float, values), strict=True))
            except (KeyError, ValueError):
                raise InputError(
                    f"the camera path holds {part!r}; give parts such as 'pan 0.25 0', 'zoom 1.2', 'turn 10', 'from "
                    "0.2', 'to 0.8' or 'ease-in-out', separated by commas."
                ) from None
        return cls(**given)  # type: ignore[arg-type]  # checked there

    @property
    def moves(self) -> bool:
        return (self.pan_x, self.pan_y, self.zoom, self.turn) != (0, 0, 1, 0)

    def progress(self, frames: int) -> list[float]:
        """How much of the path lies behind the camera at each frame, 0 to 1."""
        times = [index / max(1, frames - 1) for index in range(frames)]
        linear = [min(1.0, max(0.0, (time - self.start) / (self.end - self.start))) for time in times]
        ease = {
            "linear": lambda s: s,
            "ease-in": lambda s: s * s,
            "ease-out": lambda s: s * (2 - s),
            "ease-in-out": lambda s: s * s * (3 - 2 * s),
        }[self.easing]
        return [ease(share) for share in linear]

    def places(self, frames: int, height: int, width: int) -> list[Tensor]:
        """For each frame, where in the first frame's finer values each of its own comes from: frames of [2, h, w], y and x."""
        looks = self.looks(frames, FINER * height, FINER * width)
        return [(at + 1e-3).floor().long() for at in looks]  # a hair to the right, where rounding would decide

    def looks(self, frames: int, height: int, width: int) -> list[Tensor]:
        """For each frame, the place in the first frame that each of its pixels shows: frames of [2, h, w], y and x of middles."""
        y = (torch.arange(height) + 0.5)[:, None] - height / 2
        x = (torch.arange(width) + 0.5) - width / 2
        places = []
        for share in self.progress(frames):
            angle, zoom = math.radians(self.turn * share), self.zoom**share
            across = (x * math.cos(angle) + y * math.sin(angle)) / zoom + self.pan_x * share * width
            down = (y * math.cos(angle) - x * math.sin(angle)) / zoom + self.pan_y * share * height
            places.append(torch.stack([down + height / 2, across + width / 2]))
        return places

    def flow(self, frames: int, height: int, width: int) -> Tensor:
        """How far what is at each pixel of the first frame has come in each frame, x and y: t 2 h w. The inverse of `looks`."""
        y = ((torch.arange(height) + 0.5)[:, None] - height / 2).expand(height, width)
        x = (torch.arange(width) + 0.5 - width / 2).expand(height, width)
        flows = []
        for share in self.progress(frames):
            angle, zoom = math.radians(self.turn * share), self.zoom**share
            across, down = x - self.pan_x * share * width, y - self.pan_y * share * height
            to_x = zoom * (across * math.cos(angle) - down * math.sin(angle))
            to_y = zoom * (across * math.sin(angle) + down * math.cos(angle))
            flows.append(torch.stack([to_x - x, to_y - y]))
        return torch.stack(flows)


class Canvas:
    """The finer noise of all that a camera sees, which is more than one picture."""

    def __init__(self, places: Sequence[Tensor], height: int, width: int) -> None:
        size = torch.tensor([FINER * height, FINER * width])
        low = torch.stack([place.flatten(1).amin(1) for place in places]).amin(0).clamp(max=0)
        high = torch.stack([place.flatten(1).amax(1) + 1 for place in places]).amax(0).maximum(size)
        self.before, self.size = low.neg(), (high - low).tolist()

    def draw(self, frame: Tensor, generator: torch.Generator) -> Tensor:
        """White noise over the canvas that sums to `frame` [..., h, w] where the camera stands first."""
        field = torch.randn(*frame.shape[:-2], *self.size, generator=generator).to(frame)
        top, left = self.before.tolist()
        bottom, right = top + FINER * frame.shape[-2], left + FINER * frame.shape[-1]
        inside = field[..., top:bottom, left:right].unflatten(-1, (-1, FINER)).unflatten(-3, (-1, FINER))  # h f w f
        level = frame[..., None, :, None] / FINER - inside.mean((-3, -1), keepdim=True)
        field[..., top:bottom, left:right] = (inside + level).flatten(-2).flatten(-3, -2)
        return field

    def look(self, field: Tensor, place: Tensor) -> Tensor:
        """What the camera sees at `place`: [..., h, w], of variance 1."""
        rows, columns = place + self.before[:, None, None]
        cells = (rows * self.size[1] + columns).unflatten(-1, (-1, FINER)).unflatten(0, (-1, FINER))  # h f w f
        cells = cells.transpose(1, 2).flatten(2)  # h w f*f
        # Where a zoom takes a value twice, the sum would have more variance.
        repeats = (cells[..., None] == cells[..., None, :]).sum((-1, -2))
        return field.flatten(-2)[..., cells.to(field.device)].sum(-1) / repeats.to(field).sqrt()
