"""Drawings of some frames, which the clip follows by ToonCrafter's sketch encoder (Xing et al. 2024).

The encoder was trained on white lines on black, with an empty picture for each frame that has no drawing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from ..checkpoints.sketch_file import PUBLISHED
from ..checks import check_integer, check_number
from ..diffusion.schedule import share_done
from ..errors import InputError
from ..media.images import Fit, fit_image, read_image
from ..models.sketch import STRENGTH, SketchEncoder
from ..models.unet import Control
from .source_frames import list_frames

if TYPE_CHECKING:
    from ..media.images import ImageSource
    from .source_frames import FramesSource

Lines = Literal["dark", "light"]
Between = Literal["blank", "free"]
LINES: tuple[Lines, ...] = get_args(Lines)
BETWEENS: tuple[Between, ...] = get_args(Between)
_PAPER = {"dark": 1.0, "light": -1.0}  # what the lines are drawn on, from black -1 to white 1
_LUMA = (0.299, 0.587, 0.114)  # Rec. 601, as the encoder's drawings were made grey


@dataclass(frozen=True)
class SketchPlan:
    strength: float = STRENGTH
    start: float = 0.0  # shares of the run, from pure noise on, between which the drawings count
    end: float = 1.0
    lines: Lines = "dark"  # on light paper, or light on dark
    between: Between = "blank"  # frames without a drawing get an empty one, or are left to the model

    def __post_init__(self) -> None:
        check_number("sketch strength", self.strength, 0, 10)
        check_number("where the sketch starts", self.start, 0, 1)
        check_number("where the sketch ends", self.end, 0, 1)
        if self.end <= self.start:
            raise InputError(f"the sketch starts at {self.start:g} and ends at {self.end:g}; the end must come later.")
        for name, value, accepted in (("lines", self.lines, LINES), ("between", self.between, BETWEENS)):
            if value not in accepted:
                raise InputError(f"{name} of the sketch is {value!r}; give one of {', '.join(accepted)}.")

    @classmethod
    def read(cls, text: str) -> "SketchPlan":
        """ "strength 0.6, from 0, to 0.8, light, free", of which any part may be left out."""
        numbers = {"strength": "strength", "from": "start", "to": "end"}
        given: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            word, *values = part.split()
            try:
                if word in (*LINES, *BETWEENS) and not values:
                    given["lines" if word in LINES else "between"] = word
                else:
                    (value,) = values
                    given[numbers[word]] = float(value)
            except (KeyError, ValueError):
                raise InputError(
                    f"the sketch plan holds {part!r}; give parts such as 'strength 0.6', 'from 0', 'to 0.8', 'light' "
                    "(lines on dark paper) or 'free' (frames without a drawing), separated by commas."
                ) from None
        return cls(**given)

    @property
    def paper(self) -> float:
        return _PAPER[self.lines]

    def ink(self, picture: Tensor) -> Tensor:
        """A picture [3,H,W] in [-1,1] -> [1,H,W]: 1 where there is a line, 0 where there is paper."""
        grey = (torch.tensor(_LUMA).to(picture)[:, None, None] * picture).sum(0, keepdim=True)
        return (((1 - grey) if self.lines == "dark" else (1 + grey)) / 2).clamp(0, 1)


@dataclass(frozen=True)
class Drawings:
    hint: Tensor  # b 1 t H W: 0 paper, 1 lines
    drawn: tuple[bool, ...]  # for each frame whether it has a drawing
    plan: SketchPlan

    @classmethod
    def of_frames(
        cls, pictures: Mapping[int, Tensor], frames: int, size: tuple[int, int], fit: Fit, plan: SketchPlan
    ) -> "Drawings":
        """From pictures [3,H,W] by their frame, brought to (width, height); what padding adds is paper."""
        width, height = size
        hint = torch.zeros(1, 1, frames, height, width)
        for frame, picture in pictures.items():
            hint[0, :, frame] = fit_image(plan.ink(picture), width, height, fit)
        return cls(hint, tuple(frame in pictures for frame in range(frames)), plan)

    def of(self, window: Sequence[int]) -> "Drawings":
        """Those of a window of the clip."""
        frames = list(window)
        return replace(self, hint=self.hint[:, :, frames], drawn=tuple(self.drawn[frame] for frame in frames))

    def residuals(
        self,
        encoder: SketchEncoder,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        options: Mapping[str, Any] | None = None,
    ) -> Control | None:
        """What the UNet is to add for the noisy latent x [B,4,T,h,w] at timesteps t [B] and text [K*B,L,D]; None: nothing."""
        plan = self.plan
        idle = plan.between == "free" and not any(self.drawn)
        if idle or not plan.strength or not plan.start <= share_done(t) <= plan.end:
            return None
        hint = self.hint.to(x).expand(len(x), -1, -1, -1, -1)
        skips, middle = encoder(x, hint, t, text, strength=plan.strength, options=options)
        if plan.between == "blank":
            return skips, middle
        drawn = torch.tensor(self.drawn).to(x)

        def of_drawn(residual: Tensor) -> Tensor:  # (k b t) c h w
            return residual * drawn.repeat(len(residual) // len(drawn))[:, None, None, None]

        return [of_drawn(skip) for skip in skips], of_drawn(middle)


def check_sketches(given: Mapping[str, Any], frames: int) -> tuple[int, ...]:
    """The frames that have a drawing, by the options of a run."""
    if "sketches" not in given:
        for name in ("sketch_encoder", "sketch_plan"):
            if given.get(name):
                raise InputError(
                    f"{name.replace('_', ' ')} is {given[name]!r} and sketches is missing; give both, or neither."
                )
        return ()
    if "sketch_encoder" not in given:
        raise InputError(f"sketches is given and sketch encoder is missing; give its file, published as {PUBLISHED}.")
    sketches = given["sketches"]
    return check_frames(tuple(sketches), frames) if isinstance(sketches, Mapping) else tuple(range(frames))


def check_frames(wanted: Sequence[int], frames: int) -> tuple[int, ...]:
    """Frames of a clip, each once; negative ones count from the end."""
    places = tuple(check_integer("the frame of a drawing", frame, -frames, frames - 1) % frames for frame in wanted)
    if len(set(places)) < len(places):
        raise InputError(f"two of the drawings are at the same frame, in {list(places)}; give each its own frame.")
    return places


def read_drawings(
    sketches: "Mapping[int, ImageSource] | FramesSource",
    sketched: Sequence[int],
    frames: int,
    size: tuple[int, int],
    fit: Fit,
    plan: SketchPlan,
) -> Drawings:
    listed: Sequence[ImageSource] = (
        list(sketches.values()) if isinstance(sketches, Mapping) else list_frames("sketches", sketches)
    )
    if len(listed) != len(sketched):
        raise InputError(
            f"sketches has {len(listed)} drawings for a clip of {frames} frames; give as many as the clip has, or a mapping of frames to "
            "drawings."
        )
    pictures = {frame: read_image(each, plan.paper) for frame, each in zip(sketched, listed, strict=True)}
    return Drawings.of_frames(pictures, frames, size, fit, plan)


def read_places(texts: Sequence[str]) -> Mapping[int, str] | str:
    """ "lines.png@5", one or several, as frames with their files; one without a frame is a video or a folder of drawings."""
    found = [re.fullmatch(r"(.+)@(-?\d+)", text) for text in texts]
    if len(texts) == 1 and found[0] is None:
        return texts[0]
    for text, match in zip(texts, found, strict=True):
        if match is None:
            raise InputError(f"sketch {text!r} has no frame; give the drawing with its frame, such as lines.png@5.")
    places = [(int(match[2]), match[1]) for match in found if match]
    if len(dict(places)) < len(places):
        raise InputError(
            f"two of the sketches are at the same frame, in {[frame for frame, _ in places]}; give each its own."
        )
    return dict(places)
