"""Strokes as a text: where things of the picture go, or all of it before a moving camera, and how firmly a clip is led there."""

import math
from dataclasses import dataclass, replace

from ..checks import check_number
from ..diffusion.noise_path import EASINGS, Easing, NoisePath
from ..errors import InputError

Point = tuple[float, float]  # x to the right and y down, in pixels of the picture
Line = tuple[Point, ...]

MOST_STROKES = 64
STANDS = NoisePath()
UNTIL, NOISE = 0.6, 0.3  # where none is given
_EXAMPLE = "'120,80 -> 180,90'"
_NUMBERS = {"radius": "radius", "until": "until", "noise": "noise"}


@dataclass(frozen=True)
class Strokes:
    """`radius` 0: an eighth of the frame's shorter side. Without lines, a flow or two masks say what moves."""

    lines: tuple[Line, ...] = ()
    radius: float = (
        0.0  # of what moves around the start of a stroke, in pixels of the picture; a brush has its own shape
    )
    until: float = UNTIL  # the share of the run in which what moves is led
    noise: float = NOISE  # the share of the noise's variance that moves along
    easing: Easing = "linear"
    camera: NoisePath = STANDS  # in place of lines: the whole picture as a moving camera sees it

    def __post_init__(self) -> None:
        check_number("the strokes' radius", self.radius, 0, 100_000)
        check_number("the share of the run in which strokes lead (until)", self.until, 0, 1)
        check_number("the share of the noise that moves along strokes", self.noise, 0, 1)
        if self.easing not in EASINGS:
            raise InputError(f"The strokes' easing is {self.easing!r}; give one of {', '.join(EASINGS)}.")
        if len(self.lines) > MOST_STROKES:
            raise InputError(f"there are {len(self.lines)} strokes; give up to {MOST_STROKES}.")
        for line in self.lines:
            if length_of(line) == 0:
                raise InputError(f"the stroke {tell(line)} has no length; let it end where it does not start.")

    @classmethod
    def read(cls, text: str) -> "Strokes":
        """ "120,80 -> 180,90; 20,30 -> 40,30 -> 60,50; radius 30; until 0.6; noise 0.3; ease-in-out", of which any part may be left out.

        In place of strokes "camera pan 0.25 0, zoom 1.2" moves all of the picture.
        """
        lines: list[Line] = []
        given: dict[str, float | str | NoisePath] = {}
        for part in filter(None, (part.strip() for part in text.replace("\n", ";").split(";"))):
            word, *values = part.split()
            if word == "camera":
                given["camera"] = NoisePath.read(part.removeprefix(word))
            elif "->" in part:
                lines.append(_line(part))
            elif word in EASINGS and not values:
                given["easing"] = word
            else:
                try:
                    (given[_NUMBERS[word]],) = map(float, values)
                except (KeyError, ValueError):
                    raise InputError(
                        f"strokes hold {part!r}; give strokes such as {_EXAMPLE} or 'camera pan 0.25 0', and 'radius "
                        "30', 'until 0.6', 'noise 0.3' or 'ease-in-out', separated by semicolons."
                    ) from None
        return cls(tuple(lines), **given)  # type: ignore[arg-type]  # checked there

    def check(self, width: int, height: int) -> None:
        """Refuses strokes that do not begin in a picture of this size; they may lead out of it."""
        for line in self.lines:
            (x, y), *others = line
            if not (0 <= x <= width and 0 <= y <= height):
                raise InputError(
                    f"the stroke {tell(line)} starts outside the picture, which is {width}x{height} pixels; start it inside."
                )
            if any(not (-width <= x <= 2 * width and -height <= y <= 2 * height) for x, y in others):
                raise InputError(
                    f"the stroke {tell(line)} goes far outside the picture, which is {width}x{height} pixels; give "
                    "points in the picture."
                )

    @property
    def view(self) -> NoisePath:
        """The camera's path, eased as strokes are unless it is eased by itself."""
        return replace(self.camera, easing=self.easing) if self.camera.easing == "linear" else self.camera

    def progress(self, frames: int) -> list[float]:
        """How much of its way lies behind what moves at each frame, 0 to 1."""
        return NoisePath(easing=self.easing).progress(frames)


def _line(text: str) -> Line:
    points: list[Point] = []
    for place in text.split("->"):
        try:
            x, y = map(float, place.split(","))
        except ValueError:
            x = y = math.nan
        if not (math.isfinite(x) and math.isfinite(y)):
            raise InputError(
                f"the stroke {text!r} holds {place.strip()!r}; give points of two numbers, with arrows between them, "
                f"such as {_EXAMPLE}."
            )
        points.append((x, y))
    return tuple(points)


def length_of(line: Line) -> float:
    return sum(math.dist(a, b) for a, b in zip(line, line[1:], strict=False))


def tell(line: Line) -> str:
    return " -> ".join(f"{x:g},{y:g}" for x, y in line)


def shift_at(line: Line, share: float) -> Point:
    """How far one comes on a share of the way, from its start."""
    left = share * length_of(line)
    for a, b in zip(line, line[1:], strict=False):
        length = math.dist(a, b)
        if left <= length or b is line[-1]:
            part = min(1.0, left / length) if length else 0.0
            return tuple(p + part * (q - p) - start for p, q, start in zip(a, b, line[0], strict=True))  # type: ignore[return-value]
        left -= length
    return 0.0, 0.0
