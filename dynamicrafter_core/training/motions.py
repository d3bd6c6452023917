"""The kinds of motion that procedural clips show, as rates of change, and what captions say of them.

A rate tells how fast one thing changes, in picture widths for `extent` 1: a clip of extent 0.2 that pans has moved by a fifth
of its width in the end. Names are the camera's or the thing's own direction: under `pan_left` the picture slides to the right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError

Subject = Literal["plain", "object", "sky", "water", "any"]  # what the scene must have to be moved so

# What can change: the camera's view, the object in front, the background (clouds), the front (waves), and the light.
RATES = (
    "view_x",
    "view_y",
    "view_zoom",
    "view_turn",
    "object_x",
    "object_y",
    "object_size",
    "sky",
    "water",
    "dark",
    "light",
)
ZOOM, TURN, GROWTH, FADE = 1.6, 2.0, 2.4, 2.5  # log scale, radians, log scale and share of light, for extent 1


@dataclass(frozen=True)
class Motion:
    name: str
    subject: Subject
    opposite: str | None
    phrases: tuple[str, ...]  # {thing} is replaced by the object's name
    rates: Mapping[str, float]


def _both(
    first: str,
    second: str,
    subject: Subject,
    words: tuple[str, str],
    phrases: tuple[str, ...],
    rates: Mapping[str, float],
) -> tuple[Motion, Motion]:
    """A motion and its opposite: the same sentences with the other word, the same rates with the other sign."""

    def say(word: str) -> tuple[str, ...]:
        return tuple(phrase.replace("*", word) for phrase in phrases)

    negative = {name: -rate for name, rate in rates.items()}
    return (
        Motion(first, subject, second, say(words[0]), MappingProxyType(dict(rates))),
        Motion(second, subject, first, say(words[1]), MappingProxyType(negative)),
    )


_PAN = ("the camera pans *", "pan *", "panning * slowly", "a camera pan to the *", "the view pans *", "camera moves *")
_OBJECT = (
    "the {thing} moves *",
    "a {thing} moving *",
    "the {thing} flies to the *",
    "{thing} slides *",
    "a {thing} goes *",
)

MOTIONS: Mapping[str, Motion] = MappingProxyType(
    {
        motion.name: motion
        for motion in (
            Motion(
                "still",
                "any",
                None,
                ("nothing moves", "a still picture", "everything stands still", "static shot, no motion", "frozen"),
                MappingProxyType({}),
            ),
            *_both("pan_left", "pan_right", "any", ("left", "right"), _PAN, {"view_x": 1.0}),
            *_both("pan_up", "pan_down", "any", ("up", "down"), _PAN, {"view_y": 1.0}),
            *_both(
                "zoom_in",
                "zoom_out",
                "any",
                ("in", "out"),
                ("the camera zooms *", "zoom *", "zooming * slowly", "a slow zoom *", "the view zooms *"),
                {"view_zoom": ZOOM},
            ),
            *_both(
                "rotate_clockwise",
                "rotate_counterclockwise",
                "any",
                ("clockwise", "counterclockwise"),
                ("the picture rotates *", "rotate *", "turning *", "everything turns *", "a slow * rotation"),
                {"view_turn": TURN},
            ),
            *_both("object_left", "object_right", "object", ("left", "right"), _OBJECT, {"object_x": -1.0}),
            *_both("object_up", "object_down", "object", ("up", "down"), _OBJECT, {"object_y": -1.0}),
            *_both(
                "grow",
                "shrink",
                "object",
                ("grows", "shrinks"),
                ("the {thing} *", "{thing} slowly *", "the {thing} * in place", "a {thing} that *"),
                {"object_size": GROWTH},
            ),
            *_both(
                "clouds_left",
                "clouds_right",
                "sky",
                ("left", "right"),
                ("clouds drift *", "the clouds move *", "clouds drifting to the *", "the sky drifts *"),
                {"sky": -1.0},
            ),
            *_both(
                "waves_left",
                "waves_right",
                "water",
                ("left", "right"),
                ("waves roll *", "the waves move *", "waves rolling to the *", "the water flows *"),
                {"water": -1.0},
            ),
            Motion(
                "darken",
                "any",
                "brighten",
                ("it gets dark", "fade to black", "the light fades", "night falls"),
                MappingProxyType({"dark": FADE}),
            ),
            Motion(
                "brighten",
                "any",
                "darken",
                ("it gets bright", "fade to white", "the light grows bright", "day breaks"),
                MappingProxyType({"light": FADE}),
            ),
        )
    }
)


MIX = 0.7  # how fast each of two motions is that a clip shows together


def mixed(first: str, second: str) -> Motion:
    """Both at once, as "pan_left+zoom_in"; each phrase of one with a phrase of the other."""
    a, b = MOTIONS[first], MOTIONS[second]
    names = [motion.opposite or motion.name for motion in (a, b)]
    phrases = tuple(f"{a.phrases[i % len(a.phrases)]} and {phrase}" for i, phrase in enumerate(b.phrases))
    rates = {rate: MIX * (a.rates.get(rate, 0.0) + b.rates.get(rate, 0.0)) for rate in {**a.rates, **b.rates}}
    return Motion(f"{first}+{second}", "any", "+".join(names), phrases, MappingProxyType(rates))


def find_motion(name: str) -> Motion:
    """One of MOTIONS, or two of them with a + between."""
    words = name.split("+")
    unknown = [word for word in words if word not in MOTIONS]
    if unknown or len(words) > 2:
        raise InputError(
            f"There is no motion {(unknown or [name])[0]!r}; the motions are {', '.join(MOTIONS)}, and two of them "
            "with + between."
        )
    return MOTIONS[name] if len(words) == 1 else mixed(*words)


def find_motions(names: list[str] | tuple[str, ...]) -> tuple[Motion, ...]:
    return tuple(find_motion(name) for name in names)


def rates_of(names: list[str] | tuple[str, ...]) -> Tensor:
    """[len(names), len(RATES)]"""
    return torch.tensor([[find_motion(name).rates.get(rate, 0.0) for rate in RATES] for name in names])
