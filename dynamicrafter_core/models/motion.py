"""How much a clip moves, as hooks into the UNet's attentions:

ends, middle            lambda, the weight of the image's tokens, by part of the UNet (DynamiCrafter, Xing et al. 2024): the
                        middle half of the layers that see the image, or the outer half
strength, temperature   what temporal attention adds is multiplied, and its softmax made flatter (above 1) or sharper;
                        several values are a curve over the frames
first_frame             each frame also sees the first one's keys and values in its own attention, beside its own or in
                        their place (Text2Video-Zero, Khachatryan et al. 2023)
causal                  in temporal attention each frame sees itself and those before it alone (MagicVideo, Zhou et al. 2022)
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ..checks import check_number
from ..errors import InputError
from .hooks import AttentionHooks, ChangeInputs, ChangeStream, Hooks, Where
from .transformers import only_past

Manner = Literal["beside", "in-place"]
MANNERS: tuple[Manner, ...] = get_args(Manner)
_ORDER = {"input": 0, "middle": 1, "output": 2}


@dataclass(frozen=True)
class Motion:
    ends: float = 1.0  # lambda, of what the model has of its own
    middle: float = 1.0
    start: float = 0.0  # shares of the run, from pure noise on, between which this lambda counts
    end: float = 1.0
    strength: tuple[float, ...] = (1.0,)
    temperature: tuple[float, ...] = (1.0,)
    first_frame: float = 0.0  # 0 to 1
    manner: Manner = "beside"
    causal: bool = False

    def __post_init__(self) -> None:
        check_number("lambda of the ends", self.ends, 0, 10)
        check_number("lambda of the middle", self.middle, 0, 10)
        check_number("where lambda by part starts", self.start, 0, 1)
        check_number("where lambda by part ends", self.end, 0, 1)
        if self.end <= self.start:
            raise InputError(
                f"lambda by part starts at {self.start:g} and ends at {self.end:g}; the end must come later."
            )
        for value in self.strength:
            check_number("motion strength", value, 0, 10)
        for value in self.temperature:
            check_number("motion temperature", value, 0.1, 10)
        check_number("first-frame attention", self.first_frame, 0, 1)
        if self.manner not in MANNERS:
            raise InputError(f"first-frame attention is {self.manner!r}; give one of {', '.join(MANNERS)}.")

    @classmethod
    def read(cls, text: str) -> "Motion":
        """ "middle 2, ends 1, from 0, to 0.5, strength 1 1.5, temperature 0.8, beside 0.5, causal", of which any part may be left out."""
        single = {"ends": "ends", "middle": "middle", "from": "start", "to": "end"}
        given: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            word, *values = part.split()
            if word == "causal" and not values:
                given[word] = True
                continue
            try:
                numbers = read_curve(" ".join(values))
                if word in ("strength", "temperature"):
                    given[word] = numbers
                    continue
                (number,) = numbers
                given |= {"first_frame": number, "manner": word} if word in MANNERS else {single[word]: number}
            except (KeyError, ValueError):
                raise InputError(
                    f"motion holds {part!r}; give parts such as 'middle 2', 'ends 0.5', 'from 0', 'to 0.5', 'strength "
                    "1.5', 'temperature 0.8', 'beside 0.5', 'in-place 0.5' or 'causal', separated by commas."
                ) from None
        return cls(**given)

    def hooks(self, places: Iterable[str], done: float) -> Hooks:
        """For a UNet with these places, when a share `done` of the noise levels lies behind it."""
        made: dict[str, AttentionHooks] = {}
        seeing = sorted((place for place in places if " spatial " in place and place.endswith("attn2")), key=_order)
        if (self.ends, self.middle) != (1, 1) and self.start <= done <= self.end:
            quarter = len(seeing) // 4
            for index, place in enumerate(seeing):
                in_middle = quarter <= index < len(seeing) - quarter
                made[place] = AttentionHooks(image=(_scaled(self.middle if in_middle else self.ends),))
        for place in places:
            if " temporal " in place and (self.causal or (self.strength, self.temperature) != ((1,), (1,))):
                masks = (only_past,) if self.causal else ()
                made[place] = AttentionHooks(
                    inputs=(_softened(self.temperature),), output=(_curved(self.strength),), masks=masks
                )
            elif " spatial " in place and place.endswith("attn1") and self.first_frame:
                see = _see_first_beside if self.manner == "beside" else _see_first
                made[place] = AttentionHooks(inputs=(_by(self.first_frame, see),))
        return Hooks(attentions=made)


AS_TRAINED = Motion()


def read_curve(text: str) -> tuple[float, ...]:
    """ "1 1.5 1" -> its numbers, of which there is at least one."""
    values = tuple(map(float, text.replace(",", " ").split()))
    if not values:
        raise ValueError(text)
    return values


def over_frames(curve: Sequence[float], like: Tensor) -> Tensor:
    """Values spread evenly over the frames of tokens [rows, t, c], linear between them: t 1."""
    points = torch.tensor([[curve]], dtype=torch.float32)
    frames = like.shape[1]
    if len(curve) == 1 or frames == 1:
        return points[0, 0, :1].expand(frames)[:, None].to(like)
    return F.interpolate(points, size=frames, mode="linear", align_corners=True)[0, 0, :, None].to(like)


def _order(place: str) -> tuple[int, int, str]:
    kind, number = place.split()[:2]
    return _ORDER[kind], int(number) if number.isdigit() else 0, place


def _scaled(weight: float) -> ChangeStream:
    return lambda seen, where: weight * seen


def _curved(curve: Sequence[float]) -> ChangeStream:
    return lambda out, where: out * over_frames(curve, out)


def _softened(curve: Sequence[float]) -> ChangeInputs:
    """Queries are linear in what they are made of, so that dividing this divides the logits."""
    return lambda x, context, value, where: (x / over_frames(curve, x), context, value)


def _by(share: float, see: Callable[[Tensor, Tensor, float], Tensor]) -> ChangeInputs:
    def change(x: Tensor, context: Tensor, value: Tensor, where: Where) -> tuple[Tensor, Tensor, Tensor]:
        frames = where.frames
        return x, see(context, _first(context, frames), share), see(value, _first(value, frames), share)

    return change


def _first(tokens: Tensor, frames: int) -> Tensor:
    """The tokens of each clip's first frame, for all its frames: (b t) l c."""
    return tokens[::frames].repeat_interleave(frames, 0)


def _see_first(own: Tensor, first: Tensor, share: float) -> Tensor:
    return own.lerp(first, share)


def _see_first_beside(own: Tensor, first: Tensor, share: float) -> Tensor:
    """With a share of 0 the frame's own tokens stand there twice, which changes nothing."""
    return torch.cat([own, own.lerp(first, share)], 1)
